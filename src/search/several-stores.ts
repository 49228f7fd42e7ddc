import { ConnectError } from "@connectrpc/connect";
import { mapConcurrently } from "../api/concurrency/semaphore.ts";
import { invalidArgument } from "../errors.ts";
import { toServiceError } from "../postgres/errors.ts";
import { mergeBest, mergeStores, type StoreHit } from "./merge.ts";
import type { Search } from "./request.ts";
import { cutCandidates } from "./results/choice.ts";
import type { Findings } from "./run.ts";
import type { Searcher, SearchCall, SearchResults, SharedWork, Stage } from "./searcher.ts";

/** The merged results of a search of several stores. */
export interface StoresFound {
  /** The candidates, best first. */
  hits: readonly StoreHit[];
  /** The results of each text, or of the vector, in each store that was searched. */
  found: Findings[];
  /** Whether the hits are merged by score, as scores of one model and dimensions are comparable; else by rank. */
  isByScore: boolean;
  /** The stores that failed. */
  failures: { storeId: string; error: ConnectError }[];
  tokens: number;
  embedding: Stage;
  searching: Stage;
}

/**
 * Searches several stores, and embeds the texts once for each model. The queries wait for their turns as those of one
 * call. Throws the first store's error when every store fails, and the reason of the signal when it aborts.
 */
export async function searchStores(
  searcher: Searcher,
  storeIds: readonly string[],
  search: Search,
  call: SearchCall,
): Promise<StoresFound> {
  const shared: SharedWork = { embeddings: new Map(), chars: 0 };
  const queries = search.vector === undefined ? search.texts.length : 1;
  const answers = await mapConcurrently(
    storeIds,
    Math.max(1, Math.floor(searcher.concurrencyMax / queries)),
    async (storeId, signal) => {
      try {
        return { storeId, results: await searcher.run(storeId, [search], { ...call, signal, shared }) };
      } catch (reason) {
        signal.throwIfAborted();
        const error = toServiceError(reason);
        if (error instanceof ConnectError) return { storeId, error };
        throw error;
      }
    },
    call.signal,
  );
  const failures = answers.flatMap(({ storeId, error }) => (error === undefined ? [] : [{ storeId, error }]));
  const [first] = failures;
  if (first !== undefined && failures.length === storeIds.length) throw first.error;
  const searched = answers.flatMap(({ storeId, results }) =>
    results === undefined ? [] : [{ storeId, results }],
  );
  const spaces = new Set(searched.map(({ results }) => results.space).filter((space) => space !== undefined));
  const isByScore = spaces.size <= 1;
  if (search.diversity > 0 && !isByScore) throw incomparable();
  // Thresholds are for scores that a store gives, or a reranking model, and not for ranks.
  const isGood = ({ score }: { score: number }) => search.ranker !== undefined || score >= search.scoreMin;
  const lists = searched.map(({ storeId, results }) => ({
    storeId,
    hits: cutCandidates(search, mergeBest(results.found[0] as Findings[])).filter(isGood),
  }));
  return {
    hits: cutCandidates(search, mergeStores(lists, isByScore)),
    found: searched.flatMap(({ results }) => results.found[0] as Findings[]),
    isByScore,
    failures,
    ...(await addUp(
      shared,
      searched.map(({ results }) => results),
    )),
  };
}

/** What all stores took together. Stores are searched at the same time: the longest stage is what the caller waited for. */
async function addUp({ embeddings }: SharedWork, results: readonly SearchResults[]) {
  const embedded = (await Promise.allSettled(embeddings.values())).flatMap((outcome) =>
    outcome.status === "fulfilled" ? [outcome.value] : [],
  );
  const longest = (stages: readonly Stage[]) => Math.max(0, ...stages.map(({ durationMs }) => durationMs));
  return {
    tokens: embedded.reduce((sum, { tokens }) => sum + tokens, 0),
    embedding: {
      count: embedded.reduce((sum, { vectors }) => sum + vectors.length, 0),
      durationMs: longest(results.map(({ embedding }) => embedding)),
    },
    searching: {
      count: results.reduce((sum, { searching }) => sum + searching.count, 0),
      durationMs: longest(results.map(({ searching }) => searching)),
    },
  };
}

function incomparable(): Error {
  return invalidArgument(
    "diversity",
    "Invalid 'diversity': the stores have vectors of different models or dimensions, which cannot be compared.",
  );
}
