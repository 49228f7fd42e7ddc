import type pg from "pg";
import { withinDeadline } from "../api/within-deadline.ts";
import { keysOf } from "../filters/share.ts";
import type { Client } from "../postgres/database.ts";
import { isCancelled, isDataException, isUndefinedTable } from "../postgres/errors.ts";
import { deadlineExceeded } from "../errors.ts";
import { placeTables, type Tables } from "../postgres/tables.ts";
import type { DirectReads } from "../postgres/citus/direct-reads.ts";
import { withSettingsOnNodes, type KnownShards } from "../postgres/citus/shards.ts";
import { cancellable } from "../postgres/transaction.ts";
import type { Settings } from "../postgres/protocol/with-settings.ts";
import type { AttributeDemand } from "./attribute-demand.ts";
import type { MetadataSamples } from "./metadata-samples.ts";
import { countCandidates, type SearchIndex } from "./nearest.ts";
import { searchDirectly } from "./distributed/direct.ts";
import type { SearchHit, SearchQuery } from "./query.ts";
import { addStoreRows, addVectors, composeVectors, find, runSplit } from "./distributed/split.ts";
import { composeSplitSearch, type SplitSearch } from "./distributed/split-statement.ts";
import type { SearchedStore } from "../storage/stores.ts";
import {
  composeSearch,
  efSearchOf,
  nearestMax,
  scanSettingsOf,
  type FoundRow,
  type Statement,
} from "./statement.ts";
import { planFiltered, type FilterPlan } from "./walk.ts";

/** The results of one query, and how they were found. */
export interface Findings {
  hits: SearchHit[];
  method: "exact" | "index" | "keyword";
  /** Whether there are min(resultsMax, matching rows) hits; false when the exact search timed out. */
  isComplete: boolean;
  /** Whether the results end before `bytesMax` would be exceeded, and others follow. */
  isCut?: true;
}

/**
 * The results, or why there are none: `stale` = the cached store row is out of date (read the row again and
 * repeat the search), `gone` = the store is deleted, `expired` = the store has expired.
 */
export type SearchOutcome = Findings | "stale" | "gone" | "expired";

/** The connections and limits of a search. */
export interface Searching {
  pool: pg.Pool;
  /** Session settings that the pool's connections lack, set per transaction; see `Database`. */
  settings: Settings;
  /**
   * `statement_timeout` in ms of the exact search that follows an index search with too few results. The
   * embedded database does not enforce timeouts.
   */
  exactTimeoutMs: number;
  /**
   * Samples that tell how many rows a filter leaves; undefined: a filtered search always asks the vector index
   * first, as far as the session's `hnsw.max_scan_tuples` lets it.
   */
  samples?: MetadataSamples;
  /** Whether own tables may be on other nodes of a Citus cluster. */
  isDistributed?: boolean;
  /** The shards of these tables; undefined: each has one. */
  shards?: KnownShards;
  /** Reads them on their workers without the coordinator; undefined: none goes there. */
  direct?: DirectReads | undefined;
  /** Counts the searches that lack the index of an attribute; undefined: nobody counts them. */
  demand?: AttributeDemand;
}

/**
 * Searches a store. Returns min(resultsMax, matching rows) hits: when an index gives fewer, also for a hybrid
 * search's vector part, an exact search of all matching rows follows, or precedes where it costs less. If the
 * exact search times out, the index's hits are returned with `isComplete` false; without any hits the timeout
 * is thrown.
 */
export async function searchStore(
  searching: Searching,
  tables: Tables,
  store: SearchedStore,
  query: SearchQuery,
  signal: AbortSignal,
): Promise<SearchOutcome> {
  const { exactTimeoutMs } = searching;
  const run = (index: SearchIndex | undefined, settings: Settings, until = signal, asked = query) =>
    runSearch(searching, tables, store, asked, { index, settings, signal: until });
  const index = query.isExact || query.vector === undefined ? undefined : indexOf(store);
  if (index === undefined) return toExact(await run(undefined, {}), query);
  const plan = await limitWalk(searching, tables, store, query, index, signal);
  const visitsMax = plan?.visitsMax;
  let timeout: Error | undefined;
  if (visitsMax === 0) {
    timeout = deadlineExceeded("The exact search took too long (SEARCH_EXACT_TIMEOUT_SECONDS).");
    try {
      // A cluster may run the subqueries of such a statement one by one, each on its own.
      const collected = { ...query, range: searching.isDistributed === true ? undefined : plan?.range };
      const read = (until: AbortSignal) => run(undefined, {}, until, collected);
      return toExact(await withinDeadline(exactTimeoutMs, () => timeout as Error, signal, read), query);
    } catch (error) {
      if (error !== timeout) throw error;
    }
  }
  const rows = await run({ ...index, visitsMax: visitsMax === 0 ? undefined : visitsMax }, {});
  if (typeof rows === "string") return rows;
  const hits = rows.map((row) => toHit(row, query));
  // In a hybrid search the keyword part may fill the results while the vector part found too few rows.
  const isShort =
    query.fusion === undefined && query.files === undefined
      ? countFound(rows) < query.resultsMax
      : (rows[0]?.is_short ?? true);
  if (!isShort) return { hits, method: "index", isComplete: true, ...cutOf(rows) };
  try {
    if (timeout !== undefined) throw timeout;
    return toExact(await run(undefined, { statement_timeout: exactTimeoutMs }), query);
  } catch (error) {
    if (hits.length === 0 || (error !== timeout && !isCancelled(error))) throw error;
    return { hits, method: "index", isComplete: false, ...cutOf(rows) };
  }
}

function toExact(rows: FoundRow[] | Exclude<SearchOutcome, Findings>, query: SearchQuery): SearchOutcome {
  if (typeof rows === "string") return rows;
  const method = query.vector === undefined ? "keyword" : "exact";
  return { hits: rows.map((row) => toHit(row, query)), method, isComplete: true, ...cutOf(rows) };
}

/** The number of rows that were found, those that `bytesMax` has left out included. */
function countFound(rows: readonly FoundRow[]): number {
  return Number(rows[0]?.found ?? rows.length);
}

function cutOf(rows: readonly FoundRow[]): Pick<Findings, "isCut"> {
  return countFound(rows) > rows.length ? { isCut: true } : {};
}

async function runSearch(
  { pool, settings, isDistributed = false, shards, direct }: Searching,
  tables: Tables,
  store: SearchedStore,
  query: SearchQuery,
  attempt: { index: SearchIndex | undefined; settings: Settings; signal: AbortSignal },
): Promise<FoundRow[] | Exclude<SearchOutcome, Findings>> {
  const placed = placeTables(tables, store);
  const { index, signal } = attempt;
  const allSettings = { ...settings, ...attempt.settings };
  const isAway = isDistributed && store.own_table !== null;
  const compose = isAway ? composeSplitSearch : composeSearch;
  const vectorsOf =
    isAway && query.hasVectors === true
      ? (ids: (string | null)[]) => composeVectors(placed, store.id, ids)
      : undefined;
  const scan = scanSettingsOf(store, query, index);
  const table = isAway && index !== undefined && Object.keys(scan).length > 0 ? store.own_table : null;
  // Citus has a setting that a subquery makes for all shards made by the coordinator, and for a single shard by the worker.
  const onNodes = async (client: Client, find: () => Promise<FoundRow[]>) =>
    table !== null && (await shards?.find(client, table))?.isSplit === true
      ? withSettingsOnNodes(client, scan, find)
      : find();
  const running = { settings: allSettings, vectorsOf, onNodes };
  const runOnce = (isMixed: boolean) =>
    settle(async () => {
      const asked = isAway ? await addStoreRows(pool, tables, store, query, signal) : query;
      const found =
        isAway && direct !== undefined && shards !== undefined
          ? await searchDirectly({ pool, tables, direct, shards }, store, asked, { ...attempt, isMixed })
          : undefined;
      if (found !== undefined) return found;
      return runStatement(pool, compose(placed, store, asked, index, isMixed), running, signal);
    });
  const rows = await runOnce(false);
  if (rows !== "mixed") return rows;
  // An adopted store may have vectors of several lengths, which pgvector refuses to compare. Only the second
  // try asks each row for its length, which reads long vectors twice: an exact search of 3,000 vectors of
  // 3,072 dimensions, stored out of line, takes 27 ms instead of 20; 20,000 of 384, in line, 18 ms as before.
  const again = await runOnce(true);
  return again === "mixed" ? "stale" : again;
}

/**
 * How to search under the query's filter; undefined: there is none, or no sample tells. Then a walk may visit as many vectors
 * as the session's setting says.
 */
export async function limitWalk(
  { pool, samples, demand }: Pick<Searching, "pool" | "samples" | "demand">,
  tables: Tables,
  store: SearchedStore,
  query: SearchQuery,
  index: SearchIndex,
  signal: AbortSignal,
): Promise<FilterPlan | undefined> {
  const { filter } = query;
  if (filter === undefined) return undefined;
  const sample = await samples?.find(pool, tables, store, keysOf(filter), signal);
  if (sample === undefined) return undefined;
  const efSearch = efSearchOf(store, query);
  const candidates = countCandidates(index.precision, nearestMax(query), efSearch, true);
  const plan = planFiltered(filter, sample, candidates, efSearch);
  // No search waits for it.
  void demand?.note(store.id, plan.lacking);
  return plan;
}

/** The index that searches of a store use; undefined: they are exact. */
export function indexOf({ own_table, index_precision, dimensions }: SearchedStore): SearchIndex | undefined {
  if (own_table === null || index_precision === null || dimensions === null) return undefined;
  return { precision: index_precision, dimensions };
}

/**
 * Turns the rows of a search into its outcome. "mixed" = pgvector has met a vector of another length than the query's: the
 * store has several, or the cached store row is out of date.
 */
async function settle(
  run: () => Promise<FoundRow[]>,
): Promise<FoundRow[] | "mixed" | Exclude<SearchOutcome, Findings>> {
  try {
    const rows = await run();
    const [first] = rows;
    if (first === undefined) return "gone";
    if (first.has_expired) return "expired";
    if (!first.is_current) return "stale";
    return first.id === null ? [] : rows;
  } catch (error) {
    if (isUndefinedTable(error)) return "stale";
    if (isDataException(error)) return "mixed";
    throw error;
  }
}

/** Runs a search statement through the pool. */
async function runStatement(
  pool: pg.Pool,
  statement: Statement | SplitSearch,
  {
    settings,
    vectorsOf,
    onNodes,
  }: {
    settings: Settings;
    vectorsOf: ((ids: (string | null)[]) => Statement) | undefined;
    onNodes: (client: Client, find: () => Promise<FoundRow[]>) => Promise<FoundRow[]>;
  },
  signal: AbortSignal,
): Promise<FoundRow[]> {
  return cancellable(pool, signal, async (client) => {
    const found = await onNodes(client, () =>
      "hits" in statement ? runSplit(client, statement, settings) : find(client, statement, settings),
    );
    return vectorsOf === undefined ? found : addVectors(client, found, vectorsOf);
  });
}

function toHit(
  { value, id, content, metadata, file_id, place, filename, vector }: FoundRow,
  query: SearchQuery,
): SearchHit {
  const score = query.fusion === undefined ? toScore(value) : Math.min(1, value);
  const hit = { id: id as string, content, metadata, file_id, place, filename, score, value };
  return vector === undefined || vector === null ? hit : { ...hit, vector };
}

/**
 * Converts a cosine distance d (0 to 2) to a score of 1 to 0: 1 - d/2, as litellm-pgvector does. Clamps,
 * because rounding can put a distance slightly outside 0 to 2. NaN, the distance of a zero vector, becomes 0.
 */
export function toScore(distance: number): number {
  return Number.isNaN(distance) ? 0 : Math.min(1, Math.max(0, 1 - distance / 2));
}
