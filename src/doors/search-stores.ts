import { Code, ConnectError } from "@connectrpc/connect";
import { SearchService, type SearchResult } from "../../gen/pgquiver/v1/search_pb.ts";
import type { Calls } from "../wire/doors/calls.ts";

/** A result, and the store that has it. */
export interface StoreResult {
  storeId: string;
  result: SearchResult;
}

/**
 * Searches several stores for a text and merges the results by their rank in each store, best first; equal ranks by score.
 * The stores are searched one after another: so the call takes one of the caller's searches at a time, and the text is
 * embedded once, since the cache of queries has its vector after the first store. A store that was deleted or has expired
 * meanwhile is left out, unless it is the only one; another failure is the failure of the whole search.
 */
export async function searchStores(
  { unary }: Calls,
  storeIds: readonly string[],
  query: string,
  resultsMax: number,
): Promise<StoreResult[]> {
  const ranked: (StoreResult & { rank: number })[] = [];
  for (const storeId of storeIds) {
    const request = { vectorStoreId: storeId, query: [query], maxNumResults: resultsMax };
    try {
      const { data } = await unary(SearchService.method.search, request);
      ranked.push(...data.map((result, rank) => ({ storeId, result, rank })));
    } catch (error) {
      if (storeIds.length === 1 || !isGone(error)) throw error;
    }
  }
  return ranked.toSorted((a, b) => a.rank - b.rank || b.result.score - a.result.score).slice(0, resultsMax);
}

function isGone(error: unknown): boolean {
  return (
    error instanceof ConnectError && (error.code === Code.NotFound || error.code === Code.FailedPrecondition)
  );
}
