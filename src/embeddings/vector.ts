import { checkLength } from "../api/checks.ts";
import { invalidArgument } from "../errors.ts";
import { limits } from "../limits.ts";

/** Numbers of a vector, or the bytes of them in little-endian float32; either has `byteLength / 4` dimensions. */
export type Vector = Float32Array | Uint8Array;

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
  checkLength(param, dimensions, limits.dimensions_max);
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
