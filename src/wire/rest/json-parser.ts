import { laterTurns } from "../../api/concurrency/bulk-turns.ts";
import { invalidArgument } from "../../errors.ts";
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
} from "../limits/json-bytes.ts";

/** Bytes of JSON that are parsed at once: `JSON.parse` takes about 0.2 ms for them. */
const PART_BYTES = 64 * 1024;

/** Nesting in a part that is too long to be parsed at once. */
const DEPTH_MAX = 100;

/** Bytes that begin, separate or end a value. White space before one of them is part of the value. */
const STRUCTURE = markBytes(QUOTE, COMMA, COLON, OPEN_BRACKET, CLOSE_BRACKET, OPEN_BRACE, CLOSE_BRACE);

/**
 * Parses JSON in UTF-8 like `JSON.parse`, and lets the event loop turn between parts of 64 KiB, for which the loop stops no longer
 * than a millisecond or two: `JSON.parse` of 32 MiB would stop it for 100 ms. One string is parsed at once, however long. Throws
 * SyntaxError, and INVALID_ARGUMENT for a value that is longer than a part and nested deeper than 100 levels.
 */
export async function parseJson(bytes: Buffer): Promise<unknown> {
  if (bytes.length <= PART_BYTES) return JSON.parse(bytes.toString("utf8")) as unknown;
  return new JsonParser(bytes).run();
}

/**
 * Only what is too long for a part is taken apart here. Lists and objects are measured without looking at what they hold, and
 * `JSON.parse` gets as many whole items or pairs as a part has room for, in brackets. So each byte is judged by it, except
 * the commas, colons and brackets around parts.
 */
class JsonParser {
  readonly #bytes: Buffer;
  readonly #turn = laterTurns();
  #position = 0;
  /** The key of the outermost object whose value is being read. */
  #field: string | undefined;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  async run(): Promise<unknown> {
    this.#skipSpace();
    const value = await this.#readValue(1);
    if (this.#skipSpace() !== undefined) throw this.#unexpected();
    return value;
  }

  async #readValue(depth: number): Promise<unknown> {
    const start = this.#position;
    if (this.#skipValue(start + PART_BYTES)) return this.#parse(start, this.#position);
    if (depth > DEPTH_MAX) throw this.#tooDeep();
    const first = this.#bytes[start];
    if (first === OPEN_BRACKET) return this.#readList(depth);
    if (first === OPEN_BRACE) return this.#readObject(depth);
    if (first !== QUOTE || !this.#skipString(this.#bytes.length)) throw this.#unexpected();
    return this.#parse(start, this.#position);
  }

  async #readList(depth: number): Promise<unknown[]> {
    const list: unknown[] = [];
    const skipItem = (end: number) => this.#skipValue(end);
    for (let isOpen = this.#opens(CLOSE_BRACKET); isOpen; isOpen = this.#continues(CLOSE_BRACKET)) {
      const start = this.#position;
      if (this.#skipSeveral(skipItem)) {
        for (const item of this.#parse(start, this.#position, "[", "]") as unknown[]) list.push(item);
      } else list.push(await this.#readValue(depth + 1));
      await this.#turn();
    }
    return list;
  }

  async #readObject(depth: number): Promise<Record<string, unknown>> {
    const object: Record<string, unknown> = {};
    const skipPair = (end: number) => this.#skipPair(end);
    for (let isOpen = this.#opens(CLOSE_BRACE); isOpen; isOpen = this.#continues(CLOSE_BRACE)) {
      const start = this.#position;
      if (this.#skipSeveral(skipPair)) {
        const pairs = this.#parse(start, this.#position, "{", "}") as Record<string, unknown>;
        for (const key of Object.keys(pairs)) assign(object, key, pairs[key]);
      } else {
        const key = this.#readKey();
        if (depth === 1) this.#field = key;
        assign(object, key, await this.#readValue(depth + 1));
      }
      await this.#turn();
    }
    return object;
  }

  /** Skips an opening bracket; false where the closing one follows, and is skipped too. */
  #opens(close: number): boolean {
    this.#position++;
    if (this.#skipSpace() !== close) return true;
    this.#position++;
    return false;
  }

  /** Skips the comma behind an item or a pair; false where the closing bracket is there, and is skipped. */
  #continues(close: number): boolean {
    const next = this.#skipSpace();
    if (next !== COMMA && next !== close) throw this.#unexpected();
    this.#position++;
    if (next === close) return false;
    this.#skipSpace();
    return true;
  }

  /** Skips as many items or pairs, and the commas between them, as a part has room for; false where it has for none. */
  #skipSeveral(skip: (end: number) => boolean): boolean {
    const start = this.#position;
    let end = start;
    while (skip(start + PART_BYTES)) {
      end = this.#position;
      if (this.#skipSpace() !== COMMA) break;
      this.#position++;
      this.#skipSpace();
    }
    this.#position = end;
    return end > start;
  }

  #readKey(): string {
    const start = this.#position;
    if (this.#bytes[start] !== QUOTE || !this.#skipString(this.#bytes.length)) throw this.#unexpected();
    const key = this.#parse(start, this.#position) as string;
    if (this.#skipSpace() !== COLON) throw this.#unexpected();
    this.#position++;
    this.#skipSpace();
    return key;
  }

  #skipPair(end: number): boolean {
    if (this.#bytes[this.#position] !== QUOTE || !this.#skipString(end)) return false;
    if (this.#skipSpace() !== COLON) return false;
    this.#position++;
    this.#skipSpace();
    return this.#skipValue(end);
  }

  /** Skips the value at the position; false where it does not end before `end`: the position is anywhere then. */
  #skipValue(end: number): boolean {
    const start = this.#position;
    const first = this.#bytes[start];
    const isSkipped =
      first === QUOTE
        ? this.#skipString(end)
        : first === OPEN_BRACKET || first === OPEN_BRACE
          ? this.#skipContainer(end)
          : this.#skipWord(end);
    if (!isSkipped) this.#position = start;
    return isSkipped;
  }

  #skipContainer(end: number): boolean {
    const bytes = this.#bytes;
    const last = Math.min(end, bytes.length);
    if (this.#skipNumbers(last)) return true;
    for (let depth = 0; this.#position < last;) {
      const byte = bytes[this.#position] as number;
      if (byte === QUOTE) {
        if (!this.#skipString(last)) return false;
        continue;
      }
      if (byte === OPEN_BRACKET && this.#skipNumbers(last)) {
        if (depth === 0) return true;
        continue;
      }
      this.#position++;
      if (byte === OPEN_BRACKET || byte === OPEN_BRACE) depth++;
      else if ((byte === CLOSE_BRACKET || byte === CLOSE_BRACE) && --depth === 0) return true;
    }
    return false;
  }

  /** Skips a list without strings, lists and objects, by searches for single bytes, which take a tenth of the time. */
  #skipNumbers(end: number): boolean {
    if (this.#bytes[this.#position] !== OPEN_BRACKET) return false;
    const window = this.#bytes.subarray(this.#position + 1, end);
    const length = window.indexOf(CLOSE_BRACKET);
    if (length === -1) return false;
    const list = window.subarray(0, length);
    if (list.includes(QUOTE) || list.includes(OPEN_BRACKET) || list.includes(OPEN_BRACE)) return false;
    this.#position += length + 2;
    return true;
  }

  #skipString(end: number): boolean {
    const bytes = this.#bytes;
    const near = Math.min(end, this.#position + SHORT_BYTES);
    let position = this.#position + 1;
    for (; position < near; position++) {
      const byte = bytes[position];
      if (byte === BACKSLASH) break;
      if (byte !== QUOTE) continue;
      this.#position = position + 1;
      return true;
    }
    return this.#skipLongString(position, end);
  }

  /** Skips a string from `position` on, which is inside of it, by searches for single bytes, as far as there is no escape. */
  #skipLongString(position: number, end: number): boolean {
    const window = this.#bytes.subarray(position, end);
    const length = window.indexOf(QUOTE);
    if (length === -1) return false;
    const escape = window.subarray(0, length).indexOf(BACKSLASH);
    let index = escape === -1 ? length : escape;
    for (; index < window.length && window[index] !== QUOTE; index++)
      if (window[index] === BACKSLASH) index++;
    this.#position = position + index + 1;
    return index < window.length;
  }

  /** Skips a number, true, false, null, or what is none of them. */
  #skipWord(end: number): boolean {
    const bytes = this.#bytes;
    const last = Math.min(end, bytes.length);
    const start = this.#position;
    while (this.#position < last && STRUCTURE[bytes[this.#position] as number] === 0) this.#position++;
    // White space behind it is part of what JSON.parse gets.
    return this.#position > start && this.#position < end;
  }

  /** Skips white space; returns the byte behind it, undefined at the end. */
  #skipSpace(): number | undefined {
    const bytes = this.#bytes;
    while (SPACE[bytes[this.#position] as number] === 1) this.#position++;
    return bytes[this.#position];
  }

  #parse(start: number, end: number, open = "", close = ""): unknown {
    const text = this.#bytes.toString("utf8", start, end);
    try {
      return JSON.parse(open + text + close) as unknown;
    } catch (error) {
      throw new SyntaxError(`${(error as Error).message}, in the part of it from byte ${start} on`, {
        cause: error,
      });
    }
  }

  /** Worded as by the reader of messages, which refuses what is as deep and shorter. */
  #tooDeep(): Error {
    const what = this.#field === undefined ? "body" : `'${this.#field}'`;
    return invalidArgument(this.#field, `Invalid ${what}: nested deeper than ${DEPTH_MAX} levels.`);
  }

  #unexpected(): SyntaxError {
    const byte = this.#bytes[this.#position];
    if (byte === undefined) return new SyntaxError("Unexpected end of JSON input");
    return new SyntaxError(`Unexpected byte 0x${byte.toString(16)} at byte ${this.#position}`);
  }
}

/** Sets a pair as JSON.parse does: a key `__proto__` is one like others, which an assignment would take for the prototype. */
function assign(object: Record<string, unknown>, key: string, value: unknown): void {
  if (key === "__proto__")
    Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
  else object[key] = value;
}
