import { WireType } from "@bufbuild/protobuf/wire";
import { ProtobufCursor } from "../../api/protobuf-cursor.ts";
import { invalidArgument, unreadable } from "../../errors.ts";
import { fieldName, isMany, countError, type FieldShape, type PathPart, type Shape } from "./shape.ts";
import { tooManyValues, VALUES_MAX } from "./values.ts";

/** Levels of nested messages: more than protobuf-es decodes, which counts no map entries. */
const DEPTH_MAX = 300;

/** Scalar fields, which a client may repeat; none makes an object when it is decoded. Values have up to four each. */
const SCALARS_MAX = 8 * VALUES_MAX;

/** Counters of all messages that are open at once. */
const counters = new Float64Array(DEPTH_MAX * 64);

/**
 * Counts the items of the lists and maps in a message in protobuf's wire format, without making an object of any of
 * them, and throws INVALID_ARGUMENT, which names the field, or REQUEST_TOO_LARGE when there are too many. A message
 * that is malformed is INTERNAL, as from other gRPC servers. Stricter than protobuf's decoders, so that both see the
 * same fields: a field of another wire type, a group, and a second value of a message field are refused. `prefix` is
 * left out where it begins the name of a field.
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
        cursor.skip();
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
    if (field.message === undefined) return cursor.skip();
    const valuesBefore = this.#values;
    this.#readNested(field, field.message, field.counting === "list" ? count - 1 : undefined);
    if (field.counting === "values") this.#check(field, this.#values - valuesBefore);
  }

  #readNested(field: FieldShape, message: Shape, index: number | undefined): void {
    if (this.#path.length === DEPTH_MAX) throw unreadable("parse binary: nested too deeply.");
    this.#path.push({ field, index });
    const outer = this.#cursor.enter();
    this.readMessage(message);
    this.#cursor.leave(outer);
    this.#path.pop();
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
    for (const byte of piece) if (byte < 0x80) count++;
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
