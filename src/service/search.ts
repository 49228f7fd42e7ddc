import { create, type JsonObject } from "@bufbuild/protobuf";
import { createContextKey, type ServiceImpl } from "@connectrpc/connect";
import {
  SearchResponseSchema,
  type SearchRequest,
  type SearchResult,
  type SearchService,
} from "../../gen/pgquiver/v1/search_pb.ts";
import type { Embedder } from "../embedding/embedder.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { checkDimensions, checkVector } from "../ingest/row.ts";
import { limits } from "../limits.ts";
import { encodeVector } from "../postgres/copy.ts";
import type { Database } from "../postgres/pool.ts";
import { cancellable } from "../postgres/transaction.ts";
import { findNearest, type SearchHit } from "../search/query.ts";
import { touchStore } from "../stores/activity.ts";
import type { VectorStoreRow } from "../stores/stores.ts";
import { readFilter } from "./filter.ts";
import { checkModel } from "./model.ts";
import { checkRange } from "./page.ts";
import { requireActiveStore } from "./stores.ts";
import { checkText } from "./text.ts";

/** Most results a caller may ask for; litellm-pgvector's `limit` raises it. */
export const searchResultsMax = createContextKey<number>(limits.search_results_max);

/** Searches stores by text or vector. */
export function searchService(database: Database, embedder: Embedder): ServiceImpl<typeof SearchService> {
  const { pool, tables } = database;
  return {
    async search(request, context) {
      const resultsMax = request.maxNumResults ?? limits.search_results_default;
      checkRequest(request, resultsMax, context.values.get(searchResultsMax));
      const filter = request.filters === undefined ? undefined : readFilter(request.filters);
      const given = request.embedding.length === 0 ? undefined : checkVector(request.embedding, "embedding");
      const store = await requireActiveStore(pool, tables, request.vectorStoreId);
      const { vectors, tokens } = await queryVectors(embedder, store, request.query, given, context.signal);
      const [hits] = await Promise.all([
        cancellable(pool, context.signal, async (client) => {
          const found: SearchHit[][] = [];
          for (const vector of vectors) {
            found.push(
              await findNearest(client, tables, {
                storeId: store.id,
                vector: encodeVector(vector),
                resultsMax,
                filter,
              }),
            );
          }
          return mergeBest(found, resultsMax);
        }),
        touchStore(pool, tables, store),
      ]);
      const threshold = request.rankingOptions?.scoreThreshold ?? 0;
      return create(SearchResponseSchema, {
        object: "vector_store.search_results.page",
        searchQuery: request.query,
        data: hits.filter((hit) => hit.score >= threshold).map(toSearchResult),
        hasMore: false,
        usage: { totalTokens: BigInt(tokens) },
      });
    },
  };
}

const RANKERS = ["auto", "none", "default-2024-11-15"];

function checkRequest(request: SearchRequest, resultsMax: number, resultsLimit: number): void {
  const { query, embedding, rankingOptions } = request;
  if (query.length === 0 && embedding.length === 0) throw missingParameter("query");
  if (query.length > 0 && embedding.length > 0) {
    throw invalidArgument("embedding", "Send either 'query' or 'embedding', not both.");
  }
  if (query.length > limits.search_queries_max) {
    const message = `Invalid 'query': array too long. Expected at most ${limits.search_queries_max} texts, but got ${query.length} instead.`;
    throw invalidArgument("query", message, "ARRAY_ABOVE_MAX_LENGTH");
  }
  for (const [index, text] of query.entries()) {
    const param = query.length === 1 ? "query" : `query[${index}]`;
    if (text.trim() === "")
      throw invalidArgument(param, `Invalid '${param}': expected a text that is not empty.`);
    checkText(text, param, limits.query_chars_max);
  }
  checkRange("max_num_results", resultsMax, 1, resultsLimit);
  if (rankingOptions?.ranker !== undefined && !RANKERS.includes(rankingOptions.ranker)) {
    const supported = RANKERS.map((ranker) => `'${ranker}'`).join(", ");
    throw invalidArgument(
      "ranking_options.ranker",
      `Invalid value: '${rankingOptions.ranker}'. Supported values are: ${supported}.`,
    );
  }
  const threshold = rankingOptions?.scoreThreshold ?? 0;
  if (!(threshold >= 0 && threshold <= 1)) {
    throw invalidArgument(
      "ranking_options.score_threshold",
      "Invalid 'ranking_options.score_threshold': expected a number from 0 to 1.",
    );
  }
}

/** The vectors to search for; none when the store is empty, since then nothing can be found. */
async function queryVectors(
  embedder: Embedder,
  store: VectorStoreRow,
  texts: readonly string[],
  given: Float32Array | undefined,
  signal: AbortSignal,
): Promise<{ vectors: Float32Array[]; tokens: number }> {
  if (given !== undefined) {
    checkDimensions(given, store.dimensions, store.id, "embedding");
    return { vectors: [given], tokens: 0 };
  }
  checkModel(embedder, store);
  if (store.file_counts.total === 0) return { vectors: [], tokens: 0 };
  const embedded = await embedder.embed(texts, signal);
  for (const vector of embedded.vectors) checkDimensions(vector, store.dimensions, store.id, "query");
  return embedded;
}

/** Joins the hits of several queries: each row once, with its best score, best first, ties by id. */
function mergeBest(found: readonly SearchHit[][], resultsMax: number): SearchHit[] {
  if (found.length === 1) return found[0] ?? [];
  const best = new Map<string, SearchHit>();
  for (const hit of found.flat()) {
    const known = best.get(hit.id);
    if (known === undefined || hit.score > known.score) best.set(hit.id, hit);
  }
  const byScore = (a: SearchHit, b: SearchHit) => b.score - a.score || (a.id < b.id ? -1 : 1);
  return [...best.values()].toSorted(byScore).slice(0, resultsMax);
}

function toSearchResult(
  hit: SearchHit,
): Omit<SearchResult, "$typeName" | "content"> & { content: { type: string; text: string }[] } {
  const metadata = (hit.metadata ?? {}) as JsonObject;
  const filename = metadata["filename"];
  return {
    fileId: hit.id,
    filename: typeof filename === "string" ? filename : "document.txt",
    score: hit.score,
    attributes: metadata,
    content: [{ type: "text", text: hit.content }],
    id: hit.id,
    metadata,
  };
}
