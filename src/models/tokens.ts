import { LEXICAL_MODEL } from "./lexical.ts";

/** OpenAI's embedding models, whatever a router puts before their names. */
const OPENAI_MODEL = /^(?:[^/]+\/)*text-embedding-/;

/**
 * Whether arrays of tokens for a model are of the encoding cl100k_base: OpenAI's embedding models have it, and the built-in
 * embedder has none, for which clients such as LangChain take it. The tokens of other models are not known here.
 */
export function hasKnownTokens(model: string): boolean {
  return model === LEXICAL_MODEL || OPENAI_MODEL.test(model);
}

/**
 * Decodes tokens of cl100k_base; undefined when one is none, as special ones are. A client that cuts a text between
 * the bytes of a character gets U+FFFD for it. Not by gpt-tokenizer's own `decode`, which keeps the bytes of such a
 * character for its next caller.
 */
export async function decodeTokens(tokens: readonly number[]): Promise<string | undefined> {
  // Loaded when first needed: it takes 20 MB and a tenth of a second.
  const { default: ranks } = await import("gpt-tokenizer/bpeRanks/cl100k_base");
  const pieces: Buffer[] = [];
  for (const token of tokens) {
    const piece = ranks[token];
    if (piece === undefined) return undefined;
    pieces.push(typeof piece === "string" ? Buffer.from(piece, "utf8") : Buffer.from(piece));
  }
  return Buffer.concat(pieces).toString("utf8");
}
