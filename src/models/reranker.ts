import { z } from "zod";
import { createPost } from "./openai.ts";
import { createQueue } from "./queue.ts";

/** The provider of a reranking model. */
export interface RerankerOptions {
  /** Base URL; to one without a path `/v1` is appended, as with embeddings. */
  baseUrl: string;
  /** The bearer key; empty: no Authorization header is sent. */
  apiKey: string;
  /** The models that callers may choose; the first is the default. At least one. */
  models: readonly string[];
  /** Timeout of a request; half of it is for the wait for a turn. */
  timeoutMs: number;
}

/** A cross-encoder: scores how well texts answer a query. */
export interface Reranker {
  models: readonly string[];
  /** Resolves to a score for each text, 0 to 1. Throws when the provider fails. */
  score(model: string, query: string, texts: readonly string[], signal: AbortSignal): Promise<number[]>;
}

/** Requests in flight. */
const CONCURRENCY = 8;

/** The reply in the shape of Cohere and Jina, which LiteLLM, vLLM, Infinity and TEI behind LiteLLM share. */
const replySchema = z.object({
  results: z.array(z.object({ index: z.int().nonnegative(), relevance_score: z.number() })),
});

/** Creates a reranker that calls a provider's `POST /rerank`. A failed request is not sent again: a search waits for it. */
export function createReranker({ models, timeoutMs, ...provider }: RerankerOptions): Reranker {
  const post = createPost({ ...provider, retriesMax: 0 }, "/rerank");
  const queue = createQueue(CONCURRENCY, timeoutMs / 2);
  return {
    models,
    async score(model, query, texts, signal) {
      using _ = await queue(signal, "bounded");
      const body = { model, query, documents: texts, top_n: texts.length, return_documents: false };
      const { results } = replySchema.parse(await post(body, signal, timeoutMs / 2));
      const scores = new Map(results.map(({ index, relevance_score }) => [index, relevance_score]));
      if (scores.size !== texts.length || Math.max(...scores.keys()) >= texts.length)
        throw new Error(`The reply scores ${scores.size} of ${texts.length} texts.`);
      const ordered = texts.map((_text, index) => scores.get(index) as number);
      // Some servers answer with the logits of the model.
      const areLogits = ordered.some((score) => score < 0 || score > 1);
      return areLogits ? ordered.map((score) => 1 / (1 + Math.exp(-score))) : ordered;
    },
  };
}
