import { create, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import {
  SearchMethod,
  SearchResponseSchema,
  type SearchResponse,
  type SearchResultSchema,
  type SearchStageSchema,
} from "../../gen/pgquiver/v1/search_pb.ts";
import { writeSearchPage } from "./page.ts";
import type { SearchHit } from "./query.ts";
import type { Ranked } from "./rerank.ts";
import type { Findings } from "./run.ts";
import type { Search } from "./request.ts";
import type { SearchResults, Stage } from "./searcher.ts";

/** What searches took; without `tokens` these are not reported. */
export type Spent = Pick<SearchResults, "embedding" | "searching"> & { tokens: number | undefined };

const METHODS = { exact: SearchMethod.EXACT, index: SearchMethod.INDEX, keyword: SearchMethod.KEYWORD };

/**
 * Builds the reply to a search from the results of each of its texts, or of its vector, and from their last ranking.
 * `tokens` are the tokens used by the embedding model; undefined: not reported.
 */
export function toSearchResponse(
  { texts, scoreMin, paging }: Search,
  found: readonly Findings[],
  ranked: Ranked,
  { tokens, embedding, searching }: Spent,
): SearchResponse {
  const method = found.find((findings) => findings.method === "index")?.method ?? found[0]?.method ?? "exact";
  const last = ranked.hits.at(-1);
  const hasMore =
    paging !== undefined &&
    last !== undefined &&
    last.score >= scoreMin &&
    found.some(({ hits, isCut }) => isCut === true || hits.length > ranked.hits.length);
  return create(SearchResponseSchema, {
    object: "vector_store.search_results.page",
    searchQuery: texts,
    data: ranked.hits.filter(({ score }) => score >= scoreMin).map(toSearchResult),
    hasMore,
    ...(hasMore && { nextPage: writeSearchPage(paging.hash, { distance: last.value, id: last.id }) }),
    statistics: {
      method: METHODS[method],
      complete: found.every(({ isComplete }) => isComplete),
      ...(ranked.ranker !== undefined && { ranker: ranked.ranker }),
      rerankFailed: ranked.hasFailed,
      stages: toStages({ embed: embedding, search: searching, rerank: ranked.reranking }),
    },
    ...(tokens !== undefined && { usage: { totalTokens: BigInt(tokens) } }),
  });
}

function toStages(stages: Record<string, Stage>): MessageInitShape<typeof SearchStageSchema>[] {
  return Object.entries(stages)
    .filter(([, { count }]) => count > 0)
    .map(([name, { count, durationMs }]) => ({
      name,
      count: BigInt(count),
      durationMs: Math.round(durationMs * 100) / 100,
    }));
}

/** Merges the hits of several searches: each row once, with its best score, best first, ties by id. */
export function mergeBest(found: readonly Findings[], resultsMax: number): readonly SearchHit[] {
  const [only] = found;
  if (found.length === 1 && only !== undefined) return only.hits;
  const best = new Map<string, SearchHit>();
  for (const hit of found.flatMap(({ hits }) => hits)) {
    const known = best.get(hit.id);
    if (known === undefined || hit.score > known.score) best.set(hit.id, hit);
  }
  const byScore = (a: SearchHit, b: SearchHit) => b.score - a.score || (a.id < b.id ? -1 : 1);
  return [...best.values()].toSorted(byScore).slice(0, resultsMax);
}

function toSearchResult(hit: SearchHit): MessageInitShape<typeof SearchResultSchema> {
  const metadata = (hit.metadata ?? {}) as JsonObject;
  const given = metadata["filename"];
  return {
    fileId: hit.file_id ?? hit.id,
    filename: hit.filename ?? (typeof given === "string" ? given : "document.txt"),
    score: hit.score,
    attributes: metadata,
    content: [{ type: "text", text: hit.content }],
    id: hit.id,
  };
}
