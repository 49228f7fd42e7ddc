import { createRandom, type Random } from "./random.ts";

/** Unit vectors that are generated on demand, so that a large set need not be in memory. */
export interface Points {
  /**
   * The vector with this number (0 or more), the same on every call. Rows and queries use different numbers.
   */
  at(index: number): Float32Array;
}

/** Parameters of the distribution of points. */
export interface Spread {
  dimensions: number;
  clusters: number;
  seed: number;
}

/**
 * Number of principal directions of a cluster, and the extent in the first; direction n has 1 / sqrt(n) of
 * it.
 */
const DIRECTIONS = 24;
const EXTENT = 0.5;
/** Length of the isotropic noise. */
const NOISE = 1;

/**
 * Generates clustered points that resemble the vectors of embedding models, whose intrinsic dimension is a
 * few dozen: a centre of length 1, plus an offset in the cluster's `DIRECTIONS` random directions, plus
 * isotropic noise, normalized. Uniformly random vectors have no near neighbours, so recall measured on them
 * says little.
 */
export function createPoints({ dimensions, clusters, seed }: Spread): Points {
  const shapes = Array.from({ length: clusters }, (_, cluster) => {
    const random = createRandom(seed * 7_919 + cluster);
    const centre = direction(random, dimensions);
    return { centre, axes: Array.from({ length: DIRECTIONS }, () => direction(random, dimensions)) };
  });
  return {
    at(index) {
      const random = createRandom(seed * 104_729 + index + clusters);
      const { centre, axes } = shapes[Math.floor(random() * clusters)] as (typeof shapes)[number];
      const point = direction(random, dimensions);
      for (let axis = 0; axis < dimensions; axis++)
        point[axis] = (centre[axis] as number) + NOISE * (point[axis] as number);
      for (const [rank, along] of axes.entries()) {
        const length = (EXTENT / Math.sqrt(rank + 1)) * gaussian(random);
        for (let axis = 0; axis < dimensions; axis++)
          point[axis] = (point[axis] as number) + length * (along[axis] as number);
      }
      return normalize(point);
    },
  };
}

function direction(random: Random, dimensions: number): Float32Array {
  // The sum of three uniform numbers approximates a normal one well enough for a random direction, and is
  // fast.
  return normalize(Float32Array.from({ length: dimensions }, () => random() + random() + random() - 1.5));
}

function normalize(vector: Float32Array): Float32Array {
  let sum = 0;
  for (const value of vector) sum += value * value;
  const length = Math.sqrt(sum);
  for (let axis = 0; axis < vector.length; axis++) vector[axis] = (vector[axis] as number) / length;
  return vector;
}

/** A standard normal number, by the Box-Muller transform (1958). */
function gaussian(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
