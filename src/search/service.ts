import { create } from "@bufbuild/protobuf";
import { createContextKey, type ServiceImpl } from "@connectrpc/connect";
import {
  BatchSearchResponseSchema,
  type SearchRequest,
  type SearchService,
} from "../../gen/pgquiver/v1/search_pb.ts";
import type { Embedder } from "../models/embedder.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Database } from "../postgres/pool.ts";
import type { Findings } from "./run.ts";
import { toSearchResponse } from "./reply.ts";
import { readSearch, type Search } from "./request.ts";
import { Searcher, type SearchOptions } from "./searcher.ts";

/** Most results a caller may ask for; litellm-pgvector's `limit` raises it. */
export const searchResultsMax = createContextKey<number>(limits.search_results_max);

/** Searches stores by text, vector and keywords. */
export function searchService(
  database: Database,
  embedder: Embedder,
  options: SearchOptions,
): ServiceImpl<typeof SearchService> {
  const searcher = new Searcher(database, embedder, options);
  return {
    async search(request, context) {
      const search = readSearch(request, "", context.values.get(searchResultsMax));
      const { found, tokens } = await searcher.run(request.vectorStoreId, [search], context.signal);
      return toSearchResponse(search, found[0] as Findings[], tokens);
    },

    async batchSearch({ vectorStoreId, searches: requests }, context) {
      const searches = readBatch(requests, context.values.get(searchResultsMax));
      const { found, tokens } = await searcher.run(vectorStoreId, searches, context.signal);
      return create(BatchSearchResponseSchema, {
        object: "list",
        data: searches.map((search, index) =>
          toSearchResponse(search, found[index] as Findings[], undefined),
        ),
        usage: { totalTokens: BigInt(tokens) },
      });
    },
  };
}

function readBatch(requests: readonly SearchRequest[], resultsLimit: number): Search[] {
  if (requests.length === 0) throw missingParameter("searches");
  if (requests.length > limits.batch_searches_max) {
    const message = `Invalid 'searches': array too long. Expected at most ${limits.batch_searches_max} items, but got ${requests.length} instead.`;
    throw invalidArgument("searches", message, "ARRAY_ABOVE_MAX_LENGTH");
  }
  return requests.map((request, index) => {
    const path = `searches[${index}].`;
    if (request.vectorStoreId !== "") {
      const param = `${path}vector_store_id`;
      throw invalidArgument(
        param,
        `Invalid '${param}': all searches are of the one store named outside of them.`,
      );
    }
    return readSearch(request, path, resultsLimit);
  });
}
