import { isUtf8 } from "node:buffer";
import { WireType } from "@bufbuild/protobuf/wire";
import { invalidArgument } from "../errors.ts";

/**
 * Reads the protobuf encoding (https://protobuf.dev/programming-guides/encoding) in place: no view and
 * no object is made for a nested message, which for small ones costs more than their reading. What is
 * not well formed is INVALID_ARGUMENT.
 */
export class ProtobufCursor {
  readonly buffer: Buffer;
  position: number;
  #end: number;
  #field = 0;
  #wireType = WireType.Varint as number;

  constructor(buffer: Buffer, start: number, end: number) {
    this.buffer = buffer;
    this.position = start;
    this.#end = end;
  }

  /** Moves to the next field of the message; false at its end. */
  next(): boolean {
    if (this.position >= this.#end) return false;
    const tag = this.#uint32();
    this.#field = tag >>> 3;
    this.#wireType = tag & 7;
    if (this.#field === 0) throw malformed();
    return true;
  }

  /** Whether the field is this one, in this form. */
  is(field: number, wireType: WireType): boolean {
    return this.#field === field && this.#wireType === (wireType as number);
  }

  /** Runs `read` for each field of the message that begins here, and moves behind it. */
  within(read: () => void): void {
    const outer = this.#end;
    this.#end = this.startMessage();
    while (this.next()) read();
    this.#end = outer;
  }

  /** Reads the length of the message or bytes that begin here and returns where they end. */
  startMessage(): number {
    const length = this.#uint32();
    return this.#checked(this.position + length);
  }

  text(): string {
    const end = this.startMessage();
    const text = this.buffer.toString("utf8", this.position, end);
    // Node puts it in place of what is not UTF-8, but it may also be meant.
    if (text.includes("\uFFFD") && !isUtf8(this.buffer.subarray(this.position, end))) throw malformed();
    this.position = end;
    return text;
  }

  bytes(): Buffer {
    return this.fixed(this.startMessage() - this.position);
  }

  /** So many bytes, as a view. */
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
    throw malformed();
  }

  /** Moves behind a field nobody knows. */
  skip(): void {
    switch (this.#wireType) {
      case WireType.Varint:
        this.uint64();
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
        // Groups are not part of proto3.
        throw malformed();
    }
  }

  #uint32(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.#byte();
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
    throw malformed();
  }

  #byte(): number {
    if (this.position >= this.#end) throw malformed();
    return this.buffer[this.position++] as number;
  }

  #checked(position: number): number {
    if (position > this.#end) throw malformed();
    return position;
  }
}

/** The bytes are not what the proto file says. */
export function malformed() {
  return invalidArgument("batch", "Invalid 'batch': the protobuf encoding is malformed.", "INVALID_REQUEST");
}
