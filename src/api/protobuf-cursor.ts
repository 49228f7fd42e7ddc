import { isUtf8 } from "node:buffer";
import { WireType } from "@bufbuild/protobuf/wire";

/**
 * A pull parser of the protobuf wire format (https://protobuf.dev/programming-guides/encoding). Nested
 * messages are read in place, without an object or view per message: for small messages the allocation costs
 * more than the parsing. Malformed input throws what `malformed` makes.
 */
export class ProtobufCursor {
  readonly buffer: Buffer;
  position: number;
  /** Number and wire type of the current field. */
  field = 0;
  wireType = WireType.Varint as number;
  #end: number;
  readonly #malformed: () => Error;

  constructor(buffer: Buffer, start: number, end: number, malformed: () => Error) {
    this.buffer = buffer;
    this.position = start;
    this.#end = end;
    this.#malformed = malformed;
  }

  /** Reads the tag of the message's next field; false at the end of the message. */
  next(): boolean {
    if (this.position >= this.#end) return false;
    const tag = this.#uint32();
    this.field = tag >>> 3;
    this.wireType = tag & 7;
    if (this.field === 0) throw this.#malformed();
    return true;
  }

  /** Whether the current field has this number and wire type. */
  is(field: number, wireType: WireType): boolean {
    return this.field === field && this.wireType === (wireType as number);
  }

  /** Reads a nested message: calls `read`, which must consume the field, for each of the message's fields. */
  within(read: () => void): void {
    const outer = this.enter();
    while (this.next()) read();
    this.leave(outer);
  }

  /** Enters the current field, a nested message, and returns what `leave` needs when `next` has returned false. */
  enter(): number {
    const outer = this.#end;
    this.#end = this.startMessage();
    return outer;
  }

  /** Leaves the nested message that `enter` entered. */
  leave(outer: number): void {
    this.#end = outer;
  }

  /** Reads the length prefix of a length-delimited field and returns the end position. */
  startMessage(): number {
    const length = this.#uint32();
    return this.#checked(this.position + length);
  }

  text(): string {
    const end = this.startMessage();
    const text = this.buffer.toString("utf8", this.position, end);
    // Node decodes invalid UTF-8 to U+FFFD, but a valid text may contain U+FFFD: only then check the bytes.
    if (text.includes("\uFFFD") && !isUtf8(this.buffer.subarray(this.position, end))) throw this.#malformed();
    this.position = end;
    return text;
  }

  bytes(): Buffer {
    return this.fixed(this.startMessage() - this.position);
  }

  /** Reads `length` bytes as a view, without a copy. */
  fixed(length: number): Buffer {
    const start = this.position;
    this.position = this.#checked(start + length);
    return this.buffer.subarray(start, this.position);
  }

  double(): number {
    const start = this.position;
    this.position = this.#checked(start + 8);
    return this.buffer.readDoubleLE(start);
  }

  uint64(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#byte();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw this.#malformed();
  }

  /** Skips the current field: protobuf requires readers to ignore unknown fields. */
  skip(): void {
    switch (this.wireType) {
      case WireType.Varint:
        this.#skipVarint();
        return;
      case WireType.Bit64:
        this.position = this.#checked(this.position + 8);
        return;
      case WireType.LengthDelimited:
        this.position = this.startMessage();
        return;
      case WireType.Bit32:
        this.position = this.#checked(this.position + 4);
        return;
      default:
        // Wire types 3 and 4, groups, are not part of proto3; 6 and 7 are undefined.
        throw this.#malformed();
    }
  }

  #skipVarint(): void {
    for (let length = 1; this.#byte() >= 0x80; length++) if (length === 10) throw this.#malformed();
  }

  #uint32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.#byte();
      // The fifth byte has the last four of 32 bits.
      if (shift === 28 && byte > 0x0f) break;
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
    throw this.#malformed();
  }

  #byte(): number {
    if (this.position >= this.#end) throw this.#malformed();
    return this.buffer[this.position++] as number;
  }

  #checked(position: number): number {
    if (position > this.#end) throw this.#malformed();
    return position;
  }
}
