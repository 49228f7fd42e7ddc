import type { Embedder, Patience } from "./embedder.ts";
import { createLexicalEmbedder } from "./lexical.ts";
import { createQueue } from "./queue.ts";
import { SentenceEncoder } from "./sentences/encoder.ts";

/** The model's name. Any change of the computed vectors needs a new name, so that stores do not mix both. */
export const MEANING_MODEL = "pgquiver-meaning-v1";

/** Dimensions of the two parts of a vector: that of the words, and that of the sentence encoder. */
const WORDS = 1024;
const SENTENCES = 512;

/** Weight of the sentence encoder's similarity beside that of the words. */
const SENTENCES_WEIGHT = 0.7;

/** Characters of a piece of a text, and of a request to the process: up to a quarter of a second of CPU time. */
const REQUEST_CHARS = 2_000;

/** How long a caller may wait for its turn. */
const WAIT_MS = 30_000;

/**
 * The built-in embedder: finds the same words, and the same meaning in other words (in English), without a key and without
 * a network. A vector is that of the lexical embedder and that of a sentence encoder side by side, so that the cosine
 * similarity of two is the weighted mean of both similarities. Long texts are encoded window by window, and the windows'
 * vectors are summed up.
 *
 * Each part alone is worse; see bench/README.md, "Retrieval". `former` embeds for stores of the lexical model, which was
 * the built-in one before.
 */
export function createMeaningEmbedder(): Embedder {
  const lexical = createLexicalEmbedder(WORDS);
  const encoder = new SentenceEncoder();
  const queue = createQueue(1, WAIT_MS);

  async function encode(texts: readonly string[], signal: AbortSignal, patience: Patience) {
    const sums = texts.map(() => new Float32Array(SENTENCES));
    for (const pieces of split(texts)) {
      using _ = await queue(signal, patience);
      signal.throwIfAborted();
      const encoded = await encoder.encode(pieces.map(({ piece }) => piece));
      for (const [place, { index }] of pieces.entries())
        add(sums[index] as Float32Array, encoded[place] as Float32Array);
    }
    signal.throwIfAborted();
    return sums;
  }

  return {
    model: MEANING_MODEL,
    dimensions: WORDS + SENTENCES,
    former: createLexicalEmbedder(),
    async embed(texts, signal, patience = "bounded") {
      const words = await lexical.embed(texts, signal);
      const sentences = await encode(texts, signal, patience);
      const vectors = words.vectors.map((vector, index) => join(vector, sentences[index] as Float32Array));
      return { vectors, tokens: 0 };
    },
  };
}

interface Piece {
  piece: string;
  /** Index of its text. */
  index: number;
}

/** Splits texts into requests. A text may be spread over several, so that long ones do not hold up others. */
function* split(texts: readonly string[]): Generator<Piece[]> {
  let pieces: Piece[] = [];
  let chars = 0;
  for (const [index, text] of texts.entries()) {
    // A text is cut in the same places whatever comes before it: the same text has the same vector.
    for (let start = 0; start < text.length;) {
      const end = findEnd(text, start);
      if (chars + end - start > REQUEST_CHARS) {
        yield pieces;
        pieces = [];
        chars = 0;
      }
      pieces.push({ piece: text.slice(start, end), index });
      chars += end - start;
      start = end;
    }
  }
  if (pieces.length > 0) yield pieces;
}

/** The end of a piece: after a space where there is one in its second half. */
function findEnd(text: string, start: number): number {
  const end = start + REQUEST_CHARS;
  if (end >= text.length) return text.length;
  const space = text.lastIndexOf(" ", end - 1);
  if (space >= start + REQUEST_CHARS / 2) return space + 1;
  // Not between the two code units of a character.
  return /[\uD800-\uDBFF]/.test(text[end - 1] as string) ? end + 1 : end;
}

function add(sum: Float32Array, more: Float32Array): void {
  for (const [place, number] of more.entries()) sum[place] = (sum[place] as number) + number;
}

/** Joins two vectors, the first of length 1, so that the result has length 1. A text without words has no second one. */
function join(words: Float32Array, sentences: Float32Array): Float32Array {
  const length = Math.hypot(...sentences);
  const weight = length === 0 ? 0 : SENTENCES_WEIGHT;
  const vector = new Float32Array(WORDS + SENTENCES);
  const scale = Math.sqrt(1 / (1 + weight));
  vector.set(words.map((number) => number * scale));
  if (length > 0)
    vector.set(
      sentences.map((number) => (number * Math.sqrt(weight) * scale) / length),
      WORDS,
    );
  return vector;
}
