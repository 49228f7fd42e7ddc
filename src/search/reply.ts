import { create, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import {
  MergedBy,
  SearchMethod,
  SearchResponseSchema,
  SearchVectorStoresResponseSchema,
  type SearchStatisticsSchema,
  type SearchVectorStoresResponse,
  type SearchResponse,
  type SearchResultSchema,
  type SearchStageSchema,
} from "../../gen/pgquiver/v1/search_pb.ts";
import { toChunkPlace } from "../embeddings/reply.ts";
import type { QueryFields } from "../embeddings/query/rows.ts";
import { describeError } from "../errors.ts";
import { decodeVector } from "../postgres/copy.ts";
import { localId } from "../store-id.ts";
import { writeSearchPage } from "./page.ts";
import type { SearchHit } from "./query.ts";
import type { Ranked } from "./rerank.ts";
import type { Findings } from "./run.ts";
import type { Search } from "./request.ts";
import type { SearchResults, Stage } from "./searcher.ts";
import type { StoreHit } from "./merge.ts";
import type { StoresFound } from "./several-stores.ts";

/** What searches took; without `tokens` these are not reported. */
export type Spent = Pick<SearchResults, "embedding" | "searching"> & { tokens: number | undefined };

const METHODS = { exact: SearchMethod.EXACT, index: SearchMethod.INDEX, keyword: SearchMethod.KEYWORD };

/**
 * Builds the reply to a search from the results of each of its texts, or of its vector, and from their last ranking.
 * `tokens` are the tokens used by the embedding model; undefined: not reported.
 */
export function toSearchResponse(
  { texts, scoreMin, paging, fields }: Search,
  found: readonly Findings[],
  ranked: Ranked,
  { tokens, embedding, searching }: Spent,
): SearchResponse {
  const last = ranked.hits.at(-1);
  const hasMore =
    paging !== undefined &&
    last !== undefined &&
    last.score >= scoreMin &&
    found.some(({ hits, isCut }) => isCut === true || hits.length > ranked.hits.length);
  return create(SearchResponseSchema, {
    object: "vector_store.search_results.page",
    searchQuery: texts,
    data: ranked.hits.filter(({ score }) => score >= scoreMin).map((hit) => toSearchResult(hit, fields)),
    hasMore,
    ...(hasMore && { nextPage: writeSearchPage(paging.hash, { distance: last.value, id: last.id }) }),
    statistics: toStatistics(found, ranked, { embedding, searching }),
    ...(tokens !== undefined && { usage: { totalTokens: BigInt(tokens) } }),
  });
}

/** Builds the reply to a search of several stores. */
export function toStoresResponse(
  { texts, scoreMin, fields }: Search,
  { found, isByScore, failures, tokens, embedding, searching }: StoresFound,
  ranked: Ranked<StoreHit>,
): SearchVectorStoresResponse {
  const isAbove = ({ score }: StoreHit) => ranked.ranker === undefined || score >= scoreMin;
  return create(SearchVectorStoresResponseSchema, {
    object: "vector_store.search_results.page",
    searchQuery: texts,
    data: ranked.hits
      .filter(isAbove)
      .map((hit) => ({ vectorStoreId: localId(hit.storeId), ...toSearchResult(hit, fields) })),
    mergedBy: isByScore ? MergedBy.SCORE : MergedBy.RANK,
    errors: failures.map(({ storeId, error }) => ({
      vectorStoreId: localId(storeId),
      code: (describeError(error)?.reason ?? "INTERNAL").toLowerCase(),
      message: error.rawMessage,
    })),
    usage: { totalTokens: BigInt(tokens) },
    statistics: toStatistics(found, ranked, { embedding, searching }),
  });
}

function toStatistics(
  found: readonly Findings[],
  { ranker, hasFailed, reranking, diversifying, surrounding }: Ranked,
  { embedding, searching }: Pick<Spent, "embedding" | "searching">,
): MessageInitShape<typeof SearchStatisticsSchema> {
  const method = found.find((findings) => findings.method === "index")?.method ?? found[0]?.method ?? "exact";
  return {
    method: METHODS[method],
    complete: found.every(({ isComplete }) => isComplete),
    ...(ranker !== undefined && { ranker }),
    rerankFailed: hasFailed,
    stages: toStages({
      embed: embedding,
      search: searching,
      rerank: reranking,
      ...(diversifying !== undefined && { diversify: diversifying }),
      ...(surrounding !== undefined && { passages: surrounding }),
    }),
  };
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

function toSearchResult(hit: SearchHit, fields: QueryFields) {
  const metadata = (hit.metadata ?? {}) as JsonObject;
  const given = metadata["filename"];
  return {
    fileId: hit.file_id ?? hit.id,
    filename: hit.filename ?? (typeof given === "string" ? given : "document.txt"),
    score: hit.score,
    ...(fields.metadata && { attributes: metadata }),
    content: fields.content ? [{ type: "text", text: hit.content }] : [],
    id: hit.id,
    ...(hit.place !== null && { place: toChunkPlace(hit.place) }),
    ...(hit.passage !== undefined && { passage: hit.passage }),
    ...(fields.embedding && hit.vector && { embedding: Array.from(decodeVector(hit.vector)) }),
  } satisfies MessageInitShape<typeof SearchResultSchema>;
}
