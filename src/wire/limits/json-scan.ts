import {
  BACKSLASH,
  CLOSE_BRACE,
  CLOSE_BRACKET,
  COLON,
  COMMA,
  markBytes,
  OPEN_BRACE,
  OPEN_BRACKET,
  QUOTE,
  SHORT_BYTES,
  SPACE,
} from "./json-bytes.ts";
import { fieldName, countError, type FieldShape, type PathPart, type Shape } from "./shape.ts";
import { tooManyValues, VALUES_MAX } from "./values.ts";

/** Bytes outside of strings that begin, separate or end something. */
const STRUCTURE = markBytes(QUOTE, COMMA, OPEN_BRACKET, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE);

/** Longest key that is looked up; no field has a longer name. */
const KEY_BYTES_MAX = 64;

/** Nested messages that are told apart; deeper ones are counted like the values of an unknown key. */
const DEPTH_MAX = 100;

/** Thrown where the text is not JSON any more. */
const malformed = new Error("malformed JSON");

/**
 * Counts the items of the lists and the pairs of the objects in a JSON text, without making an object of any of
 * them, and throws INVALID_ARGUMENT, which names the field, or REQUEST_TOO_LARGE when there are too many.
 * `prefix` is left out where it begins the name of a field. Where the text is not JSON the count ends without an
 * error: JSON.parse makes objects only of what comes before.
 */
export function checkJson(bytes: Uint8Array, shape: Shape, prefix = ""): void {
  const steps = checkJsonInSteps(bytes, shape, prefix);
  while (steps.next().done !== true);
}

/** As `checkJson`, in steps, one for each message in a list, between which the event loop may turn. */
export function checkJsonInSteps(bytes: Uint8Array, shape: Shape, prefix = ""): Generator<void, void> {
  return new JsonScan(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), prefix).run(shape);
}

class JsonScan {
  readonly #bytes: Buffer;
  readonly #prefix: string;
  #position = 0;
  #values = 0;
  readonly #path: PathPart[] = [];
  /** What `#skipContainer` found: the number of values, and whether all are numbers, booleans or null. */
  #items = 0;
  #isFlat = true;

  constructor(bytes: Buffer, prefix: string) {
    this.#bytes = bytes;
    this.#prefix = prefix;
  }

  *run(shape: Shape): Generator<void, void> {
    const [first, second, third] = this.#bytes;
    // Connect's decoder drops a byte order mark.
    if (first === 0xef && second === 0xbb && third === 0xbf) this.#position = 3;
    try {
      if (this.#peek() === OPEN_BRACE) yield* this.#readMessage(shape);
      else this.#skipValue();
    } catch (error) {
      if (error !== malformed) throw error;
    }
  }

  *#readMessage(shape: Shape): Generator<void, void> {
    this.#position++;
    if (this.#peek() === CLOSE_BRACE) return void this.#position++;
    for (;;) {
      if (this.#peek() !== QUOTE) throw malformed;
      const field = shape.byKey.get(this.#readKey());
      if (this.#peek() !== COLON) throw malformed;
      this.#position++;
      this.#count(1);
      if (field === undefined || field.counting === "none") this.#skipValue();
      else yield* this.#readField(field);
      const next = this.#peek();
      this.#position++;
      if (next === CLOSE_BRACE) return;
      if (next !== COMMA) throw malformed;
    }
  }

  *#readField(field: FieldShape): Generator<void, void> {
    const first = this.#peek();
    if (first !== OPEN_BRACE && first !== OPEN_BRACKET) return this.#skipValue();
    // The reader of JSON names the field that is nested too deeply.
    if (this.#path.length >= DEPTH_MAX) return this.#skipValue();
    const isTyped = field.message !== undefined && field.counting !== "map";
    if (isTyped && first === OPEN_BRACE && field.counting === "message")
      return yield* this.#readNested(field);
    if (isTyped && first === OPEN_BRACKET && field.counting === "list")
      return yield* this.#readMessages(field);
    if (first === OPEN_BRACKET && field.itemBytes !== undefined && this.#skipShortNumbers(field.max)) return;
    this.#skipContainer(field);
    if (!(this.#isFlat && field.itemBytes !== undefined)) this.#count(this.#items);
    if (field.counting !== "message") this.#check(field, this.#items);
  }

  *#readNested(field: FieldShape, index?: number): Generator<void, void> {
    this.#path.push({ field, index });
    yield* this.#readMessage(field.message as Shape);
    this.#path.pop();
  }

  *#readMessages(field: FieldShape): Generator<void, void> {
    this.#position++;
    let count = 0;
    let next = this.#peek();
    if (next === CLOSE_BRACKET) return void this.#position++;
    while (next !== CLOSE_BRACKET) {
      this.#count(1, field, ++count);
      if (this.#peek() === OPEN_BRACE) yield* this.#readNested(field, count - 1);
      else this.#skipValue();
      yield;
      next = this.#peek();
      this.#position++;
      if (next !== COMMA && next !== CLOSE_BRACKET) break;
    }
    this.#check(field, count);
    if (next !== CLOSE_BRACKET) throw malformed;
  }

  /**
   * Skips a list of numbers that is too short in bytes to have more than `max`, without counting them: five times as
   * fast. Returns false, and skips nothing, for any other list.
   */
  #skipShortNumbers(max: number): boolean {
    const end = this.#bytes.indexOf(CLOSE_BRACKET, this.#position);
    // A number and its comma are at least two bytes.
    if (end === -1 || end - this.#position > 2 * max) return false;
    const numbers = this.#bytes.subarray(this.#position + 1, end);
    if (numbers.includes(QUOTE) || numbers.includes(OPEN_BRACKET) || numbers.includes(OPEN_BRACE))
      return false;
    this.#position = end + 1;
    return true;
  }

  /** Skips a value that is not looked into; what it contains is counted. */
  #skipValue(): void {
    const first = this.#peek();
    if (first === OPEN_BRACE || first === OPEN_BRACKET) {
      this.#skipContainer();
      this.#count(this.#items);
    } else if (first === QUOTE) this.#skipString();
    else this.#position = this.#nextStructure(this.#position);
  }

  /** Skips a list or an object, with all that is in it, in a loop: nested calls would overflow the stack. */
  #skipContainer(field?: FieldShape): void {
    const bytes = this.#bytes;
    const start = this.#position;
    this.#items = 0;
    this.#isFlat = true;
    for (let depth = 0; ;) {
      this.#position = this.#nextStructure(this.#position);
      const byte = bytes[this.#position];
      if (byte === COMMA) {
        if (++this.#items > VALUES_MAX) throw this.#tooMany(field, this.#items);
        this.#position++;
      } else if (byte === QUOTE) {
        this.#isFlat = false;
        this.#skipString();
      } else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
        if (this.#position !== start) this.#isFlat = false;
        depth++;
        this.#position++;
        const next = this.#peek();
        if (next !== CLOSE_BRACE && next !== CLOSE_BRACKET) this.#items++;
      } else if (byte === undefined) {
        this.#count(this.#items);
        throw malformed;
      } else {
        depth--;
        this.#position++;
        if (depth === 0) return;
      }
    }
  }

  #nextStructure(position: number): number {
    const bytes = this.#bytes;
    while (STRUCTURE[bytes[position] as number] === 0) position++;
    return position;
  }

  /** Skips a string, from its first quotation mark on; whether it has escapes. */
  #skipString(): boolean {
    const bytes = this.#bytes;
    let hasEscape = false;
    let position = this.#position + 1;
    // A long text without escapes is skipped by searches for single bytes, in a tenth of the time.
    const near = position + SHORT_BYTES;
    for (; position < bytes.length && bytes[position] !== QUOTE; position++) {
      if (position === near && !hasEscape) position = this.#skipPlain(position);
      if (bytes[position] === QUOTE) break;
      if (bytes[position] !== BACKSLASH) continue;
      hasEscape = true;
      position++;
    }
    this.#position = position + 1;
    return hasEscape;
  }

  /** The place of the first quotation mark or backslash from a position on. */
  #skipPlain(position: number): number {
    const end = this.#bytes.indexOf(QUOTE, position);
    const text = this.#bytes.subarray(position, end === -1 ? undefined : end);
    const escape = text.indexOf(BACKSLASH);
    return position + (escape === -1 ? text.length : escape);
  }

  #readKey(): string {
    const start = this.#position;
    const hasEscape = this.#skipString();
    const length = this.#position - start;
    if (length > KEY_BYTES_MAX * (hasEscape ? 6 : 1)) return "";
    const text = this.#bytes.toString("latin1", start, start + length);
    if (!hasEscape) return text.slice(1, -1);
    try {
      return JSON.parse(text) as string;
    } catch {
      throw malformed;
    }
  }

  /** The next byte that is not white space; undefined at the end. */
  #peek(): number | undefined {
    const bytes = this.#bytes;
    while (SPACE[bytes[this.#position] as number] === 1) this.#position++;
    return bytes[this.#position];
  }

  /** Counts values of the request, which are `items` of the list `field` or are in no list. */
  #count(values: number, field?: FieldShape, items = 0): void {
    this.#values += values;
    if (this.#values > VALUES_MAX) throw this.#tooMany(field, items);
  }

  /** The error for too many values, which ends the scan. Names the list if its items alone are too many. */
  #tooMany(field: FieldShape | undefined, items: number): Error {
    if (field === undefined || items <= field.max) return tooManyValues();
    return countError(field, fieldName(this.#path, field, this.#prefix), items, "at least ");
  }

  #check(field: FieldShape, count: number): void {
    if (count > field.max) throw countError(field, fieldName(this.#path, field, this.#prefix), count);
  }
}
