import { checkLength } from "../api/checks.ts";
import { invalidArgument } from "../errors.ts";
import { limits } from "../limits.ts";
import { localId } from "../store-id.ts";

/** A vector as numbers, or as bytes of little-endian float32; both have `byteLength / 4` dimensions. */
export type Vector = Float32Array | Uint8Array;

/**
 * Converts a caller's vector to float32 and checks it: 1 to 16,000 finite numbers, not all zero. Throws
 * INVALID_ARGUMENT, naming `param` or its first element that is not finite.
 */
export function checkVector(values: ArrayLike<number>, param: string): Float32Array {
  const vector = values instanceof Float32Array ? values : toFloats(values);
  checkFloats(vector, param);
  return vector;
}

/**
 * Converts by a loop: `new Float32Array(values)` takes five times as long, 26 microseconds for 1,536 numbers.
 */
function toFloats(values: ArrayLike<number>): Float32Array {
  const floats = new Float32Array(values.length);
  for (let index = 0; index < values.length; index++) floats[index] = values[index] as number;
  return floats;
}

/** The exponent bits of an IEEE 754 float32; all are set in NaN and the infinities. */
const EXPONENT = 0x7f800000;
const LOWEST_EXPONENT_BIT = 0x00800000;
const ALL_BUT_SIGN = 0x7fffffff;

const scratch = new Int32Array(limits.dimensions_max);

/**
 * Copies a vector, which may be unaligned in a message, to a shared aligned buffer; valid until the next
 * call.
 */
function alignedBits(vector: Vector): Int32Array {
  const bytes = new Uint8Array(vector.buffer, vector.byteOffset, vector.byteLength);
  new Uint8Array(scratch.buffer).set(bytes);
  return scratch.subarray(0, vector.byteLength / 4);
}

/**
 * Like `checkVector`, for a vector that is float32 already. Tests the bits: 1 microsecond for 1,536
 * dimensions.
 */
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
    // Adding 1 to the exponent overflows into the sign bit exactly when all exponent bits are set.
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

/** Throws DIMENSION_MISMATCH when a vector's length differs from `expected`; null accepts every length. */
export function checkDimensions(
  vector: { byteLength: number },
  expected: number | null,
  storeId: string,
  param: string,
): void {
  const dimensions = vector.byteLength / 4;
  if (expected === null || dimensions === expected) return;
  const message = `Invalid '${param}': vector store '${localId(storeId)}' holds vectors of ${expected} dimensions, but got ${dimensions}.`;
  throw invalidArgument(param, message, "DIMENSION_MISMATCH");
}
