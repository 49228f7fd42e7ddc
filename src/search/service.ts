import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  BatchSearchResponseSchema,
  type SearchRequest,
  type SearchService,
} from "../../gen/pgquiver/v1/search_pb.ts";
import { checkLength } from "../api/checks.ts";
import type { FairQueue } from "../api/concurrency/fair-queue.ts";
import { principal } from "../api/principal.ts";
import { searchResultsMax } from "../api/search-results-max.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Embedder } from "../models/embedder.ts";
import type { Database } from "../postgres/database.ts";
import { toSearchResponse } from "./reply.ts";
import { readSearch, type Search } from "./request.ts";
import type { Findings } from "./run.ts";
import { Searcher, type ObserveQuery, type SearchOptions } from "./searcher.ts";

/**
 * Implements SearchService: search by text, by vector, by keywords, and hybrid. `observe` gets each query that was
 * answered by a store's vector index.
 */
export function searchService(
  database: Database,
  embedder: Embedder,
  options: SearchOptions,
  queue: FairQueue,
  observe?: ObserveQuery,
): ServiceImpl<typeof SearchService> {
  const searcher = new Searcher(database, embedder, options, queue, observe);
  const toCall = ({ values, signal }: HandlerContext) => ({
    caller: values.get(principal).caller,
    readers: values.get(principal).readers,
    payer: values.get(principal),
    signal,
  });
  return {
    async search(request, context) {
      const search = readSearch(request, "", context.values.get(searchResultsMax));
      const { found, tokens } = await searcher.run(request.vectorStoreId, [search], toCall(context));
      return toSearchResponse(search, found[0] as Findings[], tokens);
    },

    async batchSearch({ vectorStoreId, searches: requests }, context) {
      const searches = readBatch(requests, context.values.get(searchResultsMax));
      const { found, tokens } = await searcher.run(vectorStoreId, searches, toCall(context));
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
  checkLength("searches", requests.length, limits.batch_searches_max);
  return requests.map((request, index) => {
    const path = `searches[${index}].`;
    if (request.vectorStoreId !== "") {
      const param = `${path}vector_store_id`;
      throw invalidArgument(
        param,
        `Invalid '${param}': a batch searches a single store, named outside of 'searches'.`,
      );
    }
    return readSearch(request, path, resultsLimit);
  });
}
