import { setImmediate } from "node:timers/promises";
import type { Embedder } from "./embedder.ts";

/**
 * Matches a run of Han, Hiragana and Katakana, whose words have no spaces between (group 1), or a word of
 * other scripts.
 */
const WORD =
  /([[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}]&&[\p{L}\p{N}]]+)|[[\p{L}\p{M}\p{N}]--[[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}]&&[\p{L}\p{N}]]]+/gv;

/** English stop words, including the fragments of contractions, such as "ll" and "ve". */
const FUNCTION_WORDS = new Set(
  (
    "a about after all also am an and any are as at be because been before being between both but by can could d did " +
    "do does doing for from further had has have having he her here hers him his how i if in into is it its itself " +
    "just ll m me more most my no nor not now of off on once only or other our ours out over own re s same she should " +
    "so some such t than that the their theirs them then there these they this those through to too under until up ve " +
    "very was we were what when where which while who whom why will with would you your yours"
  ).split(" "),
);

const FUNCTION_WORD_WEIGHT = 0.1;

/** The model's name. Any change of the computed vectors needs a new name, so that stores do not mix both. */
export const LEXICAL_MODEL = "pgquiver-lexical-v1";

/** Lengths of the character n-grams of a word, which is first padded with "<" and ">". */
const NGRAM_CHARS_MIN = 3;
const NGRAM_CHARS_MAX = 5;

/**
 * Hash seeds; two, so that a word and an equal n-gram hash differently. The first is FNV-1a's offset basis.
 */
const WORD_SEED = 0x811c9dc5;
const NGRAM_SEED = 0x9dc5811c;

/** Characters embedded before yielding to the event loop: 3 to 15 ms of CPU time. */
const TURN_CHARS = 32_768;

/**
 * An embedder without a trained model and without network access. Texts are similar if they share words, or
 * parts of words ("return", "returns"): the embedder matches words, not meaning. Vectors are deterministic,
 * have length 1 and are never zero. `dimensions` defaults to 1,536.
 *
 * Method: signed feature hashing (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning",
 * 2009) of words and of their character n-grams (Bojanowski et al., "Enriching Word Vectors with Subword
 * Information", 2017), weighted by log term frequency.
 *
 * Mean reciprocal rank of 298 questions of perlfaq, whose answers are among 1,098 texts of about 1,100
 * characters each: words only 0.49, n-grams at half the words' weight 0.54, at equal weight 0.55; 512
 * dimensions 0.48, 1,024 0.54, 1,536 0.55, 8,192 0.56.
 */
export function createLexicalEmbedder(dimensions = 1536): Embedder {
  return {
    model: LEXICAL_MODEL,
    dimensions,
    async embed(texts, signal) {
      signal.throwIfAborted();
      const vectors: Float32Array[] = [];
      let chars = 0;
      for (const text of texts) {
        vectors.push(embedText(text, dimensions));
        chars += text.length;
        if (chars >= TURN_CHARS) {
          chars = 0;
          await setImmediate();
          signal.throwIfAborted();
        }
      }
      return { vectors, tokens: 0 };
    },
  };
}

function embedText(text: string, dimensions: number): Float32Array {
  const sums = new Float64Array(dimensions);
  for (const [word, count] of countWords(text)) {
    const isFunctionWord = FUNCTION_WORDS.has(word);
    const weight = (1 + Math.log(count)) * (isFunctionWord ? FUNCTION_WORD_WEIGHT : 1);
    addFeature(sums, hashChars(word, WORD_SEED), weight);
    if (!isFunctionWord) addNgrams(sums, `<${word}>`, weight);
  }
  let squares = sums.reduce((total, sum) => total + sum * sum, 0);
  if (squares === 0) {
    // Hash collision: features with opposite signs cancelled out. A zero vector would have no cosine
    // similarity.
    addFeature(sums, hashChars(text, WORD_SEED), 1);
    squares = 1;
  }
  const norm = Math.sqrt(squares);
  return new Float32Array(sums.map((sum) => sum / norm));
}

/** Counts the words of a text. A text without letters and digits counts as one word. */
function countWords(text: string): Map<string, number> {
  const counts = new Map<string, number>();
  const add = (word: string): void => void counts.set(word, (counts.get(word) ?? 0) + 1);
  for (const [word, unspaced] of text.normalize("NFKC").toLowerCase().matchAll(WORD)) {
    if (unspaced === undefined) {
      add(word);
      continue;
    }
    // Word segmentation would need a dictionary: use character unigrams and bigrams as the words of the run.
    const characters = Array.from(unspaced);
    for (const [i, character] of characters.entries()) {
      add(character);
      if (i > 0) add(`${characters[i - 1]}${character}`);
    }
  }
  if (counts.size === 0) add(text);
  return counts;
}

/**
 * Adds the n-grams of a word. Each weighs 1/sqrt(n) of the word, so that all together have the word's norm.
 */
function addNgrams(sums: Float64Array, padded: string, weight: number): void {
  let ngrams = 0;
  for (let chars = NGRAM_CHARS_MIN; chars <= NGRAM_CHARS_MAX; chars += 1) {
    ngrams += Math.max(0, padded.length - chars + 1);
  }
  const ngramWeight = weight / Math.sqrt(ngrams);
  for (let start = 0; start + NGRAM_CHARS_MIN <= padded.length; start += 1) {
    // FNV-1a is incremental: the hash of an n-gram extends that of the next shorter one by one step.
    let hash = NGRAM_SEED;
    const end = Math.min(start + NGRAM_CHARS_MAX, padded.length);
    for (let i = start; i < end; i += 1) {
      hash = Math.imul(hash ^ padded.charCodeAt(i), 0x01000193);
      if (i - start + 1 >= NGRAM_CHARS_MIN) addFeature(sums, hash, ngramWeight);
    }
  }
}

/** 32-bit FNV-1a over UTF-16 code units. */
function hashChars(text: string, seed: number): number {
  let hash = seed;
  for (let i = 0; i < text.length; i += 1) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash;
}

/** Adds the weight to the vector element chosen by the hash, with the sign of the hash's top bit. */
function addFeature(sums: Float64Array, hash: number, weight: number): void {
  // MurmurHash3's 32-bit finaliser (Appleby) mixes the bits: for short texts FNV's high bits hardly change.
  let mixed = hash ^ (hash >>> 16);
  mixed = Math.imul(mixed, 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  mixed ^= mixed >>> 16;
  const place = (mixed & 0x7fffffff) % sums.length;
  sums[place] = (sums[place] ?? 0) + (mixed < 0 ? -weight : weight);
}
