import { create } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import {
  BatchSearchResponseSchema,
  SearchRequestSchema,
  type SearchRequest,
  type SearchService,
} from "../../gen/pgquiver/v1/search_pb.ts";
import { checkLength } from "../api/checks.ts";
import { mapConcurrently } from "../api/concurrency/semaphore.ts";
import type { FairQueue } from "../api/concurrency/fair-queue.ts";
import { principal } from "../api/principal.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Embedder } from "../models/embedder.ts";
import type { Reranker } from "../models/reranker.ts";
import type { DirectReads } from "../postgres/citus/direct-reads.ts";
import type { Database } from "../postgres/database.ts";
import { mergeBest } from "./merge.ts";
import { toSearchResponse, toStoresResponse, type Spent } from "./reply.ts";
import { readSearch, type Search, type SearchBounds } from "./request.ts";
import { rankAnew } from "./rerank.ts";
import { chooseResults, cutCandidates } from "./results/choice.ts";
import type { Findings } from "./run.ts";
import { addPassages, type Surrounding } from "./results/surroundings.ts";
import { searchStores } from "./several-stores.ts";
import { Searcher, type ObserveQuery, type SearchOptions } from "./searcher.ts";

/** Searches of a batch that are ranked anew at the same time. */
const RERANKS_MAX = 4;

/** What searches may do without. */
interface SearchParts {
  observe?: ObserveQuery;
  reranker?: Reranker | undefined;
  direct?: DirectReads | undefined;
}

/**
 * Implements SearchService: search by text, by vector, by keywords, and hybrid. `observe` gets each query that was
 * answered by a store's vector index.
 */
export function searchService(
  database: Database,
  embedder: Embedder,
  options: SearchOptions,
  queue: FairQueue,
  { observe, reranker, direct }: SearchParts = {},
): ServiceImpl<typeof SearchService> {
  const searcher = new Searcher(database, embedder, options, queue, observe, direct);
  const toCall = ({ values, signal }: HandlerContext) => ({
    caller: values.get(principal).caller,
    readers: values.get(principal).readers,
    payer: values.get(principal),
    signal,
  });
  const boundsOf = (storeId: string | undefined) => ({ storeId, rankers: reranker?.models ?? [] });
  const reply = async (search: Search, found: readonly Findings[], spent: Spent, of: Answering) => {
    const candidates = cutCandidates(search, mergeBest(found));
    const { signal } = of.call;
    const ranked = await rankAnew(reranker, search, candidates, signal);
    const chosen = await chooseResults(search, ranked, signal);
    return toSearchResponse(search, found, await addPassages(of, search, chosen, () => of.storeId), spent);
  };
  return {
    async search(request, context) {
      const storeId = request.vectorStoreId;
      const search = readSearch(request, "", boundsOf(storeId));
      const call = toCall(context);
      const { found, ...spent } = await searcher.run(storeId, [search], call);
      const answering = { searcher, storeId, call, spent: { chars: 0 } };
      return reply(search, found[0] as Findings[], spent, answering);
    },

    async searchVectorStores(request, context) {
      const call = toCall(context);
      const { vectorStoreIds, $typeName: _, ...given } = request;
      checkStores(vectorStoreIds);
      const search = readSearch(create(SearchRequestSchema, given), "", boundsOf(undefined));
      const found = await searchStores(searcher, vectorStoreIds, search, call);
      const ranked = await rankAnew(reranker, search, found.hits, call.signal);
      const chosen = await chooseResults(search, ranked, call.signal);
      const answering = { searcher, call, spent: { chars: 0 } };
      return toStoresResponse(
        search,
        found,
        await addPassages(answering, search, chosen, (hit) => hit.storeId),
      );
    },

    async batchSearch({ vectorStoreId: storeId, searches: requests }, context) {
      const searches = readBatch(requests, boundsOf(storeId));
      const call = toCall(context);
      const { found, tokens, ...spent } = await searcher.run(storeId, searches, call);
      const chars = { chars: 0 };
      return create(BatchSearchResponseSchema, {
        object: "list",
        data: await mapConcurrently(
          [...searches.entries()],
          RERANKS_MAX,
          ([index, search], signal) => {
            const answering = { searcher, storeId, call: { ...call, signal }, spent: chars };
            return reply(search, found[index] as Findings[], { ...spent, tokens: undefined }, answering);
          },
          call.signal,
        ),
        usage: { totalTokens: BigInt(tokens) },
      });
    },
  };
}

/** How a search of one store is answered. */
interface Answering extends Surrounding {
  storeId: string;
}

function checkStores(ids: readonly string[]): void {
  if (ids.length === 0) throw missingParameter("vector_store_ids");
  checkLength("vector_store_ids", ids.length, limits.search_stores_max);
  for (const [index, id] of ids.entries()) {
    const param = `vector_store_ids[${index}]`;
    if (ids.indexOf(id) < index) throw invalidArgument(param, `Invalid '${param}': named twice.`);
  }
}

function readBatch(requests: readonly SearchRequest[], bounds: SearchBounds): Search[] {
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
    return readSearch(request, path, bounds);
  });
}
