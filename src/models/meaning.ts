import type { Embedder } from "./embedder.ts";
import { shareProcess } from "./encoder/encode.ts";
import { EncoderProcess } from "./encoder/process.ts";
import { createLexicalEmbedder } from "./lexical.ts";

/** The model's name. Any change of the computed vectors needs a new name, so that stores do not mix both. */
export const MEANING_MODEL = "pgquiver-meaning-v1";

/** Dimensions of the two parts of a vector: that of the words, and that of the sentence encoder. */
const WORDS = 1024;
const SENTENCES = 512;

/** Weight of the sentence encoder's similarity beside that of the words. */
const SENTENCES_WEIGHT = 0.7;

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
  const program = new URL("./encoder/sentences.ts", import.meta.url);
  const encode = shareProcess(new EncoderProcess("The built-in sentence encoder", program));

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
