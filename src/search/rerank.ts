import { limits } from "../limits.ts";
import type { Reranker } from "../models/reranker.ts";
import type { SearchHit } from "./query.ts";
import type { Search } from "./request.ts";
import type { Stage } from "./searcher.ts";

/** The results of a search, or the candidates for them, after their last ranking. */
export interface Ranked<Hit extends SearchHit = SearchHit> {
  hits: readonly Hit[];
  /** The model that ranked them; undefined: none. */
  ranker?: string;
  /** Whether a model was asked and failed. */
  hasFailed: boolean;
  /** Candidates that the model was asked about. */
  reranking: Stage;
  /** Candidates that `diversity` chose from. */
  diversifying?: Stage;
  /** Results that passages were read for. */
  surrounding?: Stage;
}

/** Ranks the candidates of a search, best first, anew where the search has a ranker; else, and where that fails, keeps their order. */
export async function rankAnew<Hit extends SearchHit>(
  reranker: Reranker | undefined,
  { ranker, texts }: Pick<Search, "ranker" | "texts">,
  candidates: readonly Hit[],
  signal: AbortSignal,
): Promise<Ranked<Hit>> {
  const first = {
    hits: candidates,
    hasFailed: false,
    reranking: { count: 0, durationMs: 0 },
  };
  if (reranker === undefined || ranker === undefined || candidates.length === 0) return first;
  const startedAt = performance.now();
  const measure = () => ({ count: candidates.length, durationMs: performance.now() - startedAt });
  try {
    const documents = candidates.map(({ content }) =>
      content.slice(0, limits.rerank_text_chars_max).toWellFormed(),
    );
    const scores = await reranker.score(ranker, texts.join("\n"), documents, signal);
    const hits = candidates
      .map((hit, index) => ({ ...hit, score: scores[index] as number }))
      .toSorted((a, b) => b.score - a.score);
    return { hits, ranker, hasFailed: false, reranking: measure() };
  } catch {
    // The reranker has logged the error. Results in the first order are better than none.
    signal.throwIfAborted();
    return { ...first, hasFailed: true, reranking: measure() };
  }
}
