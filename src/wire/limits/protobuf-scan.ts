import { isUtf8 } from "node:buffer";
import { WireType } from "@bufbuild/protobuf/wire";
import { ProtobufCursor } from "../../api/protobuf-cursor.ts";
import { invalidArgument, unreadable } from "../../errors.ts";
import { fieldName, isMany, countError, type FieldShape, type PathPart, type Shape } from "./shape.ts";
import { tooManyValues, VALUES_MAX } from "./values.ts";

/** Levels of nested messages that protobuf-es decodes; it does not count the entries of maps. */
const DEPTH_MAX = 100;

/** The same with the entries of maps, of which each has a message of the next level. */
const LEVELS_MAX = 2 * DEPTH_MAX;

/** Scalar fields, which a client may repeat; none makes an object when it is decoded. Values have up to four each. */
const SCALARS_MAX = 8 * VALUES_MAX;

const VARINT_BYTES_MAX = 10;

/** Counters of all messages that are open at once. */
const counters = new Float64Array(LEVELS_MAX * 64);

/**
 * Counts the items of the lists and maps in a message in protobuf's wire format, without making an object of any of
 * them, and throws INVALID_ARGUMENT, which names the field, or REQUEST_TOO_LARGE when there are too many. A message
 * that is malformed is INVALID_ARGUMENT too. Whatever passes can be decoded: Connect answers a failure to decode with
 * INTERNAL, HTTP 500, which is no fault of the service. Stricter than protobuf's decoders, so that both see the same
 * fields: a field of another wire type, a group, and a second value of a message field are refused. `prefix` is left
 * out where it begins the name of a field.
 */
export function checkProtobuf(bytes: Uint8Array, shape: Shape, prefix = ""): void {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  new ProtobufScan(buffer, prefix).readMessage(shape);
}

const malformed = () => unreadable("parse binary: the encoding is malformed.");

class ProtobufScan {
  readonly #cursor: ProtobufCursor;
  readonly #prefix: string;
  readonly #path: PathPart[] = [];
  #countersUsed = 0;
  #depth = 1;
  #values = 0;
  #scalars = 0;

  constructor(buffer: Buffer, prefix: string) {
    this.#cursor = new ProtobufCursor(buffer, 0, buffer.length, malformed);
    this.#prefix = prefix;
  }

  /** Reads the fields of the message that the cursor is in. */
  readMessage(shape: Shape): void {
    const cursor = this.#cursor;
    const base = this.#countersUsed;
    this.#countersUsed += shape.slots;
    counters.fill(0, base, this.#countersUsed);
    while (cursor.next()) {
      const field = shape.byNumber.get(cursor.field);
      if (field === undefined) {
        this.#count();
        cursor.skip();
      } else if (field.counting === "none") {
        if (cursor.wireType !== field.wireType) throw malformed();
        if (++this.#scalars > SCALARS_MAX) throw tooManyValues();
        this.#skip(field);
      } else this.#readField(field, base + field.slot);
    }
    this.#countersUsed = base;
    for (const field of shape.counted) this.#check(field, counters[base + field.slot] as number);
  }

  #readField(field: FieldShape, counter: number): void {
    const cursor = this.#cursor;
    if (field.itemBytes !== undefined) {
      counters[counter] = (counters[counter] as number) + this.#countNumbers(field, field.itemBytes);
      return;
    }
    if (cursor.wireType !== (WireType.LengthDelimited as number)) throw malformed();
    const count = (counters[counter] as number) + 1;
    counters[counter] = count;
    if (isMany(field)) this.#count(field, count);
    else if (count > 1) throw this.#repeated(field);
    if (field.message === undefined) return this.#skip(field);
    const valuesBefore = this.#values;
    this.#readNested(field, field.message, field.counting === "list" ? count - 1 : undefined);
    if (field.counting === "values") this.#check(field, this.#values - valuesBefore);
  }

  #readNested(field: FieldShape, message: Shape, index: number | undefined): void {
    const levels = field.counting === "map" ? 0 : 1;
    this.#depth += levels;
    if (this.#depth > DEPTH_MAX) throw unreadable("parse binary: nested too deeply.");
    this.#path.push({ field, index });
    const outer = this.#cursor.enter();
    this.readMessage(message);
    this.#cursor.leave(outer);
    this.#path.pop();
    this.#depth -= levels;
  }

  /** Skips a scalar, or an item of a list of scalars. */
  #skip({ isText }: FieldShape): void {
    if (!isText) this.#cursor.skip();
    else if (!isUtf8(this.#cursor.bytes())) throw unreadable("parse binary: a text is not UTF-8.");
  }

  /** Skips one number of a list, or a packed piece of the list, and returns the count of its numbers. */
  #countNumbers(field: FieldShape, itemBytes: number): number {
    const cursor = this.#cursor;
    if (cursor.wireType === field.wireType) {
      cursor.skip();
      return 1;
    }
    if (cursor.wireType !== (WireType.LengthDelimited as number)) throw malformed();
    const piece = cursor.bytes();
    if (itemBytes > 0) {
      if (piece.length % itemBytes !== 0) throw malformed();
      return piece.length / itemBytes;
    }
    // The last byte of each varint, and no other, is below 0x80.
    let count = 0;
    let length = 0;
    for (const byte of piece) {
      if (++length > VARINT_BYTES_MAX) throw malformed();
      if (byte >= 0x80) continue;
      count++;
      length = 0;
    }
    if (length > 0) throw malformed();
    return count;
  }

  /**
   * Counts a value of the request. Where they are too many the scan ends at once, and names the list or map that has
   * `items` if these alone are too many.
   */
  #count(field?: FieldShape, items = 0): void {
    if (++this.#values <= VALUES_MAX) return;
    if (field === undefined || items <= field.max) throw tooManyValues();
    throw countError(field, this.#name(field), items, "at least ");
  }

  #check(field: FieldShape, count: number): void {
    if (count > field.max) throw countError(field, this.#name(field), count);
  }

  /** A decoder would merge the second value into the first, converting all of the first again for each. */
  #repeated(field: FieldShape) {
    const name = this.#name(field);
    return invalidArgument(name, `Invalid '${name}': given more than once.`);
  }

  #name(field: FieldShape): string {
    return fieldName(this.#path, field, this.#prefix);
  }
}
