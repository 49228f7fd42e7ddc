/** Adds a vector to another of the same length. */
export function add(sum: Float32Array, vector: ArrayLike<number>): void {
  for (let place = 0; place < sum.length; place++)
    sum[place] = (sum[place] as number) + (vector[place] as number);
}

/** Scales a vector to length 1. A zero vector has no direction: it becomes the first axis, since cosines need one. */
export function normalize(vector: Float32Array): Float32Array {
  const length = Math.hypot(...vector);
  return length === 0 ? Float32Array.of(1, ...vector.subarray(1)) : vector.map((number) => number / length);
}
