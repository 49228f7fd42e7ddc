import type { SearchHit } from "../query.ts";
import type { Ranked } from "../rerank.ts";
import type { Search } from "../request.ts";
import { diversify } from "./diversity.ts";
import { groupByFile, toFiles } from "./files.ts";

/** Cuts hits, best first, to the candidates for results. */
export function cutCandidates<Hit extends SearchHit>(
  { groups, candidatesMax }: Pick<Search, "groups" | "candidatesMax">,
  hits: readonly Hit[],
): readonly Hit[] {
  return groups === undefined ? hits.slice(0, candidatesMax) : groupByFile(hits, candidatesMax, groups);
}

/** Chooses the results among the candidates for them: the best ones, or those that differ, where the search asks for it. */
export async function chooseResults<Hit extends SearchHit>(
  { diversity, groups, resultsMax, scoreMin }: Search,
  ranked: Ranked<Hit>,
  signal: AbortSignal,
): Promise<Ranked<Hit>> {
  if (diversity === 0) {
    const hits = cutCandidates({ groups, candidatesMax: resultsMax }, ranked.hits);
    return { ...ranked, hits };
  }
  const startedAt = performance.now();
  // What the threshold removes must not take the place of a result.
  const candidates = ranked.hits.filter(({ score }) => score >= scoreMin);
  const files = groups === undefined ? candidates.map((hit) => [hit] as const) : toFiles(candidates);
  const heads = files.map((hits) => ({ ...hits[0], hits }));
  const chosen = await diversify(heads, { diversity, resultsMax }, signal);
  const diversifying = { count: files.length, durationMs: performance.now() - startedAt };
  return { ...ranked, hits: chosen.flatMap(({ hits }) => hits), diversifying };
}
