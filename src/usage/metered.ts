import { wrapEmbedder, type Embedder } from "../models/embedder.ts";
import type { UsageRecorder } from "./recorder.ts";

/** Bytes of text that count as a token where the provider counts none: about what English takes. */
const TOKEN_BYTES = 4;

/** Makes an embedder that counts what its payers use, and refuses those who have used up their quota. */
export function meterEmbedder(embedder: Embedder, recorder: UsageRecorder): Embedder {
  return wrapEmbedder(embedder, (inner) => ({
    refuse: async (payer) =>
      recorder.requireTokens(payer).then(
        () => undefined,
        (error: Error) => error,
      ),
    async embed(texts, signal, patience, payer) {
      if (payer === undefined) throw new Error("texts are embedded for nobody");
      if (payer.isAdmitted !== true) await recorder.requireTokens(payer);
      const embeddings = await inner.embed(texts, signal, patience);
      recorder.count(payer, inner.model, embeddings.tokens || estimateTokens(texts));
      return embeddings;
    },
  }));
}

function estimateTokens(texts: readonly string[]): number {
  return Math.ceil(texts.reduce((bytes, text) => bytes + Buffer.byteLength(text), 0) / TOKEN_BYTES);
}
