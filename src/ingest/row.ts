import { invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";

/** A row ready to be stored. */
export interface Row {
  id: string;
  content: string;
  /** UTF-8 bytes of `content`. */
  contentBytes: number;
  /** A JSON object, as text. */
  metadata: string;
  vector: Float32Array;
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
  if (metadata === undefined) return "{}";
  checkDepth(metadata, param);
  const json = JSON.stringify(metadata);
  // Escaped, as JSON writes both; a backslash of the text itself is doubled and so passes by.
  if (/(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/.test(json)) {
    throw invalidArgument(
      param,
      `Invalid '${param}': Postgres JSON can hold neither NUL (U+0000) nor a lone surrogate.`,
    );
  }
  const bytes = Buffer.byteLength(json);
  if (bytes > limits.metadata_bytes_max) {
    const message = `Invalid '${param}': too large. Expected at most ${limits.metadata_bytes_max} bytes of JSON, but got ${bytes} instead.`;
    throw invalidArgument(param, message, "STRING_ABOVE_MAX_LENGTH");
  }
  return json;
}

/** Checks a caller's vector: 1 to 16,000 finite float32 numbers, not all of them zero. */
export function checkVector(values: ArrayLike<number>, param: string): Float32Array {
  const vector = Float32Array.from(values);
  checkFloats(vector, param);
  return vector;
}

/** The exponent bits of a float32 (IEEE 754), all of them one in NaN and the infinities. */
const EXPONENT = 0x7f800000;
const ALL_BUT_SIGN = 0x7fffffff;

/** The same for a vector that is float32 already. It looks at bits, in a microsecond for 1,536 of them. */
export function checkFloats(vector: Float32Array, param: string): void {
  if (vector.length > limits.dimensions_max) {
    const message = `Invalid '${param}': expected at most ${limits.dimensions_max} dimensions, but got ${vector.length} instead.`;
    throw invalidArgument(param, message, "ARRAY_ABOVE_MAX_LENGTH");
  }
  const bits = new Int32Array(vector.buffer, vector.byteOffset, vector.length);
  let seen = 0;
  let infinite = 0;
  for (let index = 0; index < bits.length; index++) {
    const value = bits[index] as number;
    seen |= value;
    infinite += (value & EXPONENT) === EXPONENT ? 1 : 0;
  }
  if (infinite > 0) {
    const index = vector.findIndex((value) => !Number.isFinite(value));
    throw invalidArgument(
      `${param}[${index}]`,
      `Invalid '${param}[${index}]': expected a finite number within the range of float32.`,
    );
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
  vector: { length: number },
  expected: number | null,
  storeId: string,
  param: string,
): void {
  if (expected === null || vector.length === expected) return;
  const message = `Invalid '${param}': vector store '${storeId}' holds vectors of ${expected} dimensions, but got ${vector.length}.`;
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
    level = level
      .flatMap((node) => Object.values(node) as unknown[])
      .filter((value) => typeof value === "object" && value !== null);
  }
}
