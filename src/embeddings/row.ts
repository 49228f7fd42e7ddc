import { invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";

/** Numbers of a vector, or the bytes of them in little-endian float32; either has `byteLength / 4` dimensions. */
export type Vector = Float32Array | Uint8Array;

/** A row ready to be stored. */
export interface Row {
  id: string;
  content: string;
  /** UTF-8 bytes of `content`. */
  contentBytes: number;
  /** A JSON object, as text. */
  metadata: string;
  /** float32, or the bytes of little-endian float32. */
  vector: Vector;
  createdAt: Date;
}

/** Checks the text of a row: 1 byte to 1 MiB of UTF-8 without NUL. Returns its length in bytes. */
export function checkContent(content: string, param: string): number {
  if (content === "") throw missingParameter(param);
  if (content.includes("\0"))
    throw invalidArgument(param, `Invalid '${param}': Postgres text cannot hold NUL (U+0000).`);
  const bytes = Buffer.byteLength(content);
  if (bytes > limits.content_bytes_max) {
    const message = `Invalid '${param}': text too long. Expected at most ${limits.content_bytes_max} bytes, but got ${bytes} instead.`;
    throw invalidArgument(param, message, "STRING_ABOVE_MAX_LENGTH");
  }
  return bytes;
}

/** Checks the metadata of a row and returns it as JSON text: up to 64 KiB, 32 levels deep. */
export function checkMetadata(metadata: Record<string, unknown> | undefined, param: string): string {
  return checkJson(writeMetadata(metadata, param), param);
}

/** Writes metadata of at most 32 levels as JSON text, whose characters and length `checkJson` is to check. */
export function writeMetadata(metadata: Record<string, unknown> | undefined, param: string): string {
  if (metadata === undefined) return "{}";
  checkDepth(metadata, param);
  return JSON.stringify(metadata);
}

/** The same for metadata that is JSON text already. */
export function checkJson(json: string, param: string): string {
  // Escaped, as JSON writes both; a backslash of the text itself is doubled and so passes by.
  if (/(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/.test(json)) {
    throw invalidArgument(
      param,
      `Invalid '${param}': Postgres JSON can hold neither NUL (U+0000) nor a lone surrogate.`,
    );
  }
  // A UTF-16 unit is three bytes at most: the short ones need no counting.
  const bytes = json.length * 3 <= limits.metadata_bytes_max ? 0 : Buffer.byteLength(json);
  if (bytes > limits.metadata_bytes_max) {
    const message = `Invalid '${param}': too large. Expected at most ${limits.metadata_bytes_max} bytes of JSON, but got ${bytes} instead.`;
    throw invalidArgument(param, message, "STRING_ABOVE_MAX_LENGTH");
  }
  return json;
}

/** Checks a caller's vector: 1 to 16,000 finite float32 numbers, not all of them zero. */
export function checkVector(values: ArrayLike<number>, param: string): Float32Array {
  const vector = values instanceof Float32Array ? values : toFloats(values);
  checkFloats(vector, param);
  return vector;
}

/** The constructor of Float32Array takes five times as long: 26 microseconds for 1,536 numbers. */
function toFloats(values: ArrayLike<number>): Float32Array {
  const floats = new Float32Array(values.length);
  for (let index = 0; index < values.length; index++) floats[index] = values[index] as number;
  return floats;
}

/** The exponent bits of a float32 (IEEE 754), all of them one in NaN and the infinities. */
const EXPONENT = 0x7f800000;
const LOWEST_EXPONENT_BIT = 0x00800000;
const ALL_BUT_SIGN = 0x7fffffff;

const scratch = new Int32Array(limits.dimensions_max);

/** The bits of a vector that may lie anywhere in a message; valid until the next call. */
function alignedBits(vector: Vector): Int32Array {
  const bytes = new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength);
  new Uint8Array(scratch.buffer).set(bytes);
  return scratch.subarray(0, vector.byteLength / 4);
}

/** The same for a vector that is float32 already. It looks at bits, in a microsecond for 1,536 of them. */
export function checkFloats(vector: Vector, param: string): void {
  const dimensions = vector.byteLength / 4;
  if (!Number.isInteger(dimensions)) {
    const message = `Invalid '${param}': ${vector.byteLength} bytes are not a whole number of float32 values.`;
    throw invalidArgument(param, message);
  }
  if (dimensions > limits.dimensions_max) {
    const message = `Invalid '${param}': expected at most ${limits.dimensions_max} dimensions, but got ${dimensions} instead.`;
    throw invalidArgument(param, message, "ARRAY_ABOVE_MAX_LENGTH");
  }
  const bits = alignedBits(vector);
  let seen = 0;
  let overflows = 0;
  for (let index = 0; index < bits.length; index++) {
    const value = bits[index] as number;
    seen |= value;
    // An exponent of all ones, and no other, carries into the sign.
    overflows |= (value & EXPONENT) + LOWEST_EXPONENT_BIT;
  }
  if (overflows < 0) {
    const place = `${param}[${bits.findIndex((value) => (value & EXPONENT) === EXPONENT)}]`;
    throw invalidArgument(place, `Invalid '${place}': expected a finite number within the range of float32.`);
  }
  if ((seen & ALL_BUT_SIGN) === 0) {
    throw invalidArgument(
      param,
      `Invalid '${param}': a vector of zeros has no direction, so cosine similarity is undefined.`,
    );
  }
}

/** Refuses a vector whose length differs from its store's. */
export function checkDimensions(
  vector: { byteLength: number },
  expected: number | null,
  storeId: string,
  param: string,
): void {
  const dimensions = vector.byteLength / 4;
  if (expected === null || dimensions === expected) return;
  const message = `Invalid '${param}': vector store '${storeId}' holds vectors of ${expected} dimensions, but got ${dimensions}.`;
  throw invalidArgument(param, message, "DIMENSION_MISMATCH");
}

function checkDepth(root: object, param: string): void {
  let level: object[] = [root];
  for (let depth = 1; level.length > 0; depth++) {
    if (depth > limits.metadata_depth_max) {
      throw invalidArgument(
        param,
        `Invalid '${param}': nested deeper than ${limits.metadata_depth_max} levels.`,
      );
    }
    const values = level.flatMap((node) => Object.values(node) as unknown[]);
    // JSON would turn them into null.
    if (values.some((value) => typeof value === "number" && !Number.isFinite(value))) {
      throw invalidArgument(param, `Invalid '${param}': JSON has no NaN and no infinities.`);
    }
    level = values.filter((value) => typeof value === "object" && value !== null);
  }
}
