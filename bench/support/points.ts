import { createRandom, type Random } from "./random.ts";

/** Vectors of length 1 that can be made one at a time and never need to be in memory together. */
export interface Points {
  /** The vector of this number, always the same. Numbers from 0; any of them may be a query as well. */
  at(index: number): Float32Array;
}

/** How points are spread. */
export interface Spread {
  dimensions: number;
  clusters: number;
  seed: number;
}

/** Directions in which a cluster extends, and how far in the first of them; each further one less, as 1 / sqrt(n). */
const DIRECTIONS = 24;
const EXTENT = 0.5;
/** Length of what is added in all dimensions alike. */
const NOISE = 1;

/**
 * Clustered points like those of embedding models, whose vectors lie near a surface of a few dozen dimensions rather
 * than fill all of them: around centres of length 1, each cluster in `DIRECTIONS` random directions of its own, plus
 * noise in all dimensions. Random vectors without such structure have no near neighbours, so that recall on them
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
  // A sum of three uniform numbers is near enough to a normal one for a random direction, and quick to make.
  return normalize(Float32Array.from({ length: dimensions }, () => random() + random() + random() - 1.5));
}

function normalize(vector: Float32Array): Float32Array {
  let sum = 0;
  for (const value of vector) sum += value * value;
  const length = Math.sqrt(sum);
  for (let axis = 0; axis < vector.length; axis++) vector[axis] = (vector[axis] as number) / length;
  return vector;
}

/** One normally distributed number (Box and Muller, 1958). */
function gaussian(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
