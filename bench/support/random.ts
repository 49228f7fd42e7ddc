/**
 * A pseudo-random generator of numbers from 0 to 1 (exclusive); the same sequence for the same seed
 * everywhere.
 */
export type Random = () => number;

/** Mulberry32, a generator with 32 bits of state (Tommy Ettinger, 2017). */
export function createRandom(seed: number): Random {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let bits = Math.imul(state ^ (state >>> 15), state | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Distance of a vector from the centre of its cluster; the centre has length 1. */
const SPREAD = 0.7;

/**
 * Generates unit vectors in clusters, like texts of several topics: a centre is a random direction, a vector
 * its centre plus a random direction of length `SPREAD`, normalized. Numbers have 8 digits, as in the replies
 * of embedding APIs.
 */
export function makeVectors(
  random: Random,
  count: number,
  { dimensions, clusters }: { dimensions: number; clusters: number },
): number[][] {
  const direction = () => normalize(Array.from({ length: dimensions }, () => gaussian(random)));
  const centres = Array.from({ length: clusters }, direction);
  return Array.from({ length: count }, (_, index) => {
    const centre = centres[index % clusters] as number[];
    const noise = direction();
    const vector = normalize(centre.map((value, axis) => value + SPREAD * (noise[axis] as number)));
    return vector.map((value) => Number(value.toPrecision(8)));
  });
}

/** Number of distinct words in generated texts. */
const VOCABULARY = 5_000;

/** Generates texts of `words` words each; word frequencies fall with the word's number, like Zipf's law. */
export function makeTexts(random: Random, count: number, words: number): string[] {
  const syllables = Array.from("bdfglmnprstvz", (consonant) =>
    Array.from("aeiou", (vowel) => consonant + vowel),
  ).flat();
  const syllable = () => syllables[Math.floor(random() * syllables.length)] as string;
  const vocabulary = Array.from({ length: VOCABULARY }, () => syllable() + syllable() + syllable());
  const word = () => vocabulary[Math.floor(VOCABULARY ** random()) - 1] as string;
  return Array.from({ length: count }, () => Array.from({ length: words }, word).join(" "));
}

function normalize(vector: number[]): number[] {
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}

/** A standard normal number, by the Box-Muller transform (1958). */
function gaussian(random: Random): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
