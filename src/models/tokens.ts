import { isBuiltIn } from "./embedder.ts";

/** Names of OpenAI's embedding models, with any routing prefixes such as `openai/`. */
const OPENAI_MODEL = /^(?:[^/]+\/)*text-embedding-/;

/**
 * Whether clients encode tokens for a model with cl100k_base: they do for OpenAI's embedding models, and
 * clients such as LangChain fall back to cl100k_base for an unknown name, such as the built-in embedder's.
 * For other models the encoding is unknown.
 */
export function hasKnownTokens(model: string): boolean {
  return isBuiltIn(model) || OPENAI_MODEL.test(model);
}

/**
 * Decodes tokens of cl100k_base; undefined when a number is not a token of a text (special tokens are not). A
 * character whose bytes were split between two arrays is decoded to U+FFFD. Does not use gpt-tokenizer's
 * `decode`, whose streaming decoder keeps incomplete bytes and prepends them to the text of the next call.
 */
export async function decodeTokens(tokens: readonly number[]): Promise<string | undefined> {
  // Loaded lazily: the table takes 20 MB of memory and 0.1 s.
  const { default: ranks } = await import("gpt-tokenizer/bpeRanks/cl100k_base");
  const pieces: Buffer[] = [];
  for (const token of tokens) {
    const piece = ranks[token];
    if (piece === undefined) return undefined;
    pieces.push(typeof piece === "string" ? Buffer.from(piece, "utf8") : Buffer.from(piece));
  }
  return Buffer.concat(pieces).toString("utf8");
}
