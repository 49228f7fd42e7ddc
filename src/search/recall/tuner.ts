import { setTimeout as delay } from "node:timers/promises";
import type { Database } from "../../postgres/database.ts";
import { isCancelled } from "../../postgres/errors.ts";
import { EF_SEARCH_DEFAULT } from "../../postgres/search-settings.ts";
import { withClient } from "../../postgres/transaction.ts";
import { findMeasurable, recordRecall, RECALL_RESULTS, type MeasurableStore } from "../../storage/recall.ts";
import { MetadataSamples } from "../metadata-samples.ts";
import type { SearchQuery } from "../query.ts";
import { indexOf, limitWalk } from "../run.ts";
import { compareQuery } from "./compare.ts";
import { queriesFor, RecallCurve } from "./curve.ts";
import { nameOf, WaitingQueries, type SampledQuery, type Searches } from "./waiting-queries.ts";

/** Options of the recall tuner. */
export interface RecallOptions {
  /** Share of the time that comparisons may take, more than 0 and at most 1. */
  share: number;
  /** Milliseconds for which a recall counts as known, after which it is measured again. */
  ageMs: number;
  /** Statement timeout of the exact search that a query is compared with. */
  timeoutMs: number;
  /** Called with the duration of each comparison. */
  onCompared?: (durationMs: number) => void;
}

export const RECALL_DEFAULTS = { ageMs: 600_000, timeoutMs: 5_000 } as const;

/** Pause after a comparison at least, and while calls wait for a connection. */
const PAUSE_MS = 50;
/** How long queries of a store are not sampled: nothing is to be measured now, or an exact search took too long. */
const REST_MS = 60_000;
const LONG_REST_MS = 3_600_000;
/** Kinds of searches of which is kept that they rest, or what was measured so far. */
const RESTING_MAX = 10_000;
const CURVES_MAX = 1_000;
/**
 * Bytes of vectors of a store above which nothing is measured in the embedded database, whose exact search blocks the
 * process: 32 MiB take 20 to 60 ms.
 */
const EMBEDDED_BYTES_MAX = 32 * 1024 * 1024;
/** Metadata values kept to see how a filtered query is searched. */
const SAMPLED_VALUES_MAX = 50_000;

/**
 * Measures the recall of searches by vector indexes in the background, by comparing a sample of the queries with exact
 * searches, and tunes `ef_search` of each store so that the recall meets the store's target at the least cost. Runs one
 * comparison at a time, each followed by a pause that keeps `share`, and none while calls wait for a connection.
 */
export class RecallTuner {
  readonly #database: Database;
  readonly #options: RecallOptions;
  readonly #report: (error: unknown) => void;
  readonly #waiting = new WaitingQueries();
  readonly #curves = new Map<string, { index: string; curve: RecallCurve }>();
  /** By the name of the searches: when the rest ends. */
  readonly #resting = new Map<string, number>();
  readonly #samples = new MetadataSamples(SAMPLED_VALUES_MAX);
  readonly #stopped = new AbortController();
  readonly #ended: Promise<void>;
  #wake: () => void = () => {};

  /** `report` gets the errors of comparisons; the tuner goes on after them. */
  constructor(database: Database, options: RecallOptions, report: (error: unknown) => void) {
    this.#database = database;
    this.#options = options;
    this.#report = report;
    this.#ended = this.#run();
  }

  /** Takes note of a query that was searched for by a store's vector index. Keeps it or not. */
  note(storeId: string, { vector, filter, fusion }: SearchQuery): void {
    if (vector === undefined || fusion !== undefined) return;
    const searches: Searches = { storeId, kind: filter === undefined ? "unfiltered" : "filtered" };
    const restsUntil = this.#resting.get(nameOf(searches));
    if (restsUntil !== undefined && performance.now() < restsUntil) return;
    this.#waiting.add(searches, { vector, filter });
    this.#wake();
  }

  /** Cancels the comparison under way and waits for its end. */
  async stop(): Promise<void> {
    this.#stopped.abort(new Error("The recall tuner was stopped."));
    this.#wake();
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      const isBusy = this.#database.pool.waitingCount > 0;
      const taken = isBusy ? undefined : this.#waiting.take();
      if (taken === undefined && !isBusy) {
        await new Promise<void>((resolve) => (this.#wake = resolve));
        continue;
      }
      const startedAt = performance.now();
      if (taken !== undefined) await this.#measure(taken.searches, taken.query, signal);
      const tookMs = performance.now() - startedAt;
      const pauseMs = Math.max(PAUSE_MS, tookMs * (1 / this.#options.share - 1));
      await delay(pauseMs, undefined, { signal, ref: false }).catch(() => {});
    }
  }

  async #measure(searches: Searches, query: SampledQuery, signal: AbortSignal): Promise<void> {
    try {
      await this.#compare(searches, query, signal);
    } catch (error) {
      if (signal.aborted) return;
      const isSlow = isCancelled(error);
      this.#report(isSlow ? tooSlow(searches, this.#options.timeoutMs) : error);
      this.#rest(searches, isSlow ? LONG_REST_MS : REST_MS);
    }
  }

  async #compare(searches: Searches, query: SampledQuery, signal: AbortSignal): Promise<void> {
    const { tables, pool } = this.#database;
    const store = await withClient(pool, signal, (client) =>
      findMeasurable(client, tables, searches.storeId),
    );
    const index = store === undefined ? undefined : indexOf(store);
    if (
      store === undefined ||
      index === undefined ||
      this.#isTooLarge(store) ||
      this.#isKnown(store, searches)
    )
      return this.#rest(searches, REST_MS);
    if (query.vector.length !== VECTOR_HEAD_BYTES + 4 * index.dimensions) return;
    const visitsMax = await this.#limitWalk(store, query, signal);
    if (visitsMax === 0) return;
    const tuned = searches.kind === "unfiltered" ? store.ef_search : store.filtered_ef_search;
    const efSearch = tuned ?? EF_SEARCH_DEFAULT;
    const startedAt = performance.now();
    const compared = {
      own_table: store.own_table,
      index: { ...index, visitsMax },
      efSearch,
      timeoutMs: this.#options.timeoutMs,
    };
    const recalls = await compareQuery(this.#database, compared, query, signal);
    this.#options.onCompared?.(performance.now() - startedAt);
    if (recalls === undefined) return;
    const curve = this.#curveOf(searches, store.index);
    curve.add(recalls);
    const choice = curve.choose(store.target_recall, efSearch, tuned !== null);
    if (choice === undefined) return;
    const measurement = {
      recall: choice.recall,
      ef_search: choice.efSearch,
      queries: choice.queries,
      target: store.target_recall,
      measured_at: new Date().toISOString(),
    };
    const changed = choice.efSearch === efSearch ? undefined : choice.efSearch;
    if (await recordRecall(pool, tables, store, searches.kind, measurement, changed))
      this.#curves.delete(nameOf(searches));
  }

  /** Whether this process or another one has measured what is asked, not long ago. */
  #isKnown({ recall, target_recall: target }: MeasurableStore, { kind }: Searches): boolean {
    const measured = recall?.[kind];
    return (
      measured !== undefined &&
      measured.target === target &&
      measured.queries >= queriesFor(target) &&
      Date.now() - Date.parse(measured.measured_at) < this.#options.ageMs
    );
  }

  #isTooLarge({ embedding_count: rows, dimensions }: MeasurableStore): boolean {
    return this.#database.kind === "embedded" && Number(rows) * (dimensions ?? 0) * 4 > EMBEDDED_BYTES_MAX;
  }

  /** As `limitWalk`, for a query of ten results. */
  async #limitWalk(
    store: MeasurableStore,
    { vector, filter }: SampledQuery,
    signal: AbortSignal,
  ): Promise<number | undefined> {
    const { pool, tables } = this.#database;
    const index = indexOf(store);
    if (index === undefined) return 0;
    const query = {
      vector,
      filter,
      fusion: undefined,
      resultsMax: RECALL_RESULTS,
      isExact: false,
      efSearch: undefined,
    };
    const plan = await limitWalk({ pool, samples: this.#samples }, tables, store, query, index, signal);
    return plan?.visitsMax;
  }

  #curveOf(searches: Searches, index: string): RecallCurve {
    const name = nameOf(searches);
    const known = this.#curves.get(name);
    if (known?.index === index) return known.curve;
    const curve = new RecallCurve();
    if (this.#curves.size >= CURVES_MAX) this.#curves.clear();
    this.#curves.set(name, { index, curve });
    return curve;
  }

  #rest(searches: Searches, forMs: number): void {
    const name = nameOf(searches);
    if (this.#resting.size >= RESTING_MAX) this.#resting.clear();
    this.#resting.set(name, performance.now() + forMs);
    this.#curves.delete(name);
    this.#waiting.drop(searches);
  }
}

function tooSlow({ storeId }: Searches, timeoutMs: number): Error {
  return new Error(
    `An exact search of store ${storeId} takes longer than ${timeoutMs / 1000} s, so the recall of its index is not measured for an hour.`,
  );
}

/** Bytes before the numbers of a vector in pgvector's binary format: the dimensions, and two that are unused. */
const VECTOR_HEAD_BYTES = 4;
