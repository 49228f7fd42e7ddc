import type { SearchHit } from "../query.ts";
import type { Ranked } from "../rerank.ts";
import type { Search } from "../request.ts";
import { diversify } from "./diversity.ts";

/** Chooses the results among the candidates for them: the best ones, or those that differ, where the search asks for it. */
export async function chooseResults<Hit extends SearchHit>(
  { diversity, resultsMax, scoreMin }: Pick<Search, "diversity" | "resultsMax" | "scoreMin">,
  ranked: Ranked<Hit>,
  signal: AbortSignal,
): Promise<Ranked<Hit>> {
  if (diversity === 0) return { ...ranked, hits: ranked.hits.slice(0, resultsMax) };
  const startedAt = performance.now();
  // What the threshold removes must not take the place of a result.
  const candidates = ranked.hits.filter(({ score }) => score >= scoreMin);
  const hits = await diversify(candidates, { diversity, resultsMax }, signal);
  const diversifying = { count: candidates.length, durationMs: performance.now() - startedAt };
  return { ...ranked, hits, diversifying };
}
