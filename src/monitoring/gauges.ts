import type { ByteBudget } from "../api/byte-budget.ts";
import type { FairQueue } from "../api/concurrency/fair-queue.ts";
import { wrapEmbedder, type Embedder } from "../models/embedder.ts";
import type { Reranker } from "../models/reranker.ts";
import type { Way } from "../postgres/citus/direct-reads.ts";
import type { Database } from "../postgres/database.ts";
import { cancellable } from "../postgres/transaction.ts";
import type { Metrics } from "../wire/metrics.ts";
import { monitorBlockers } from "./blockers.ts";
import { remember } from "./remember.ts";
import { readTotals, type Totals } from "./totals.ts";

/** Timeout of the totals query, and how long its result is cached: a scrape must not load the database. */
const TOTALS_TIMEOUT_MS = 2_000;
const TOTALS_AGE_MS = 10_000;

/**
 * Every label value of the gauge by index state, so that a state without stores is exported as 0 and not
 * absent.
 */
const INDEX_STATES = { none: 0, waiting: 0, moving: 0, building: 0, ready: 0, failed: 0 };

/** Registers the gauges of the database: connection pool, totals of the stored data, replicas. */
export function monitorDatabase(metrics: Metrics, { pool, tables, replicas }: Database): void {
  metrics.addGauge(
    "pgquiver_database_connections",
    "Connections of the pool to Postgres, by what they do.",
    () => ({ busy: pool.totalCount - pool.idleCount, idle: pool.idleCount }),
    { label: "state" },
  );
  metrics.addGauge(
    "pgquiver_database_waiting",
    "Calls waiting for a connection from the pool.",
    () => pool.waitingCount,
  );
  const totals = remember(TOTALS_AGE_MS, () =>
    cancellable(pool, AbortSignal.timeout(TOTALS_TIMEOUT_MS), (client) => readTotals(client, tables)),
  );
  metrics.addGauge(
    "pgquiver_database_up",
    "1 if the totals query (timeout 2 s, result cached 10 s) succeeded; else 0, and the gauges it feeds are absent.",
    () =>
      totals().then(
        () => 1,
        () => 0,
      ),
    { across: "min" },
  );
  metrics.addGauge(
    "pgquiver_vector_stores",
    "Stores, by the state of their index.",
    async () => ({ ...INDEX_STATES, ...(await totals()).stores }),
    { label: "index_state", across: "first" },
  );
  metrics.addGauge(
    "pgquiver_embeddings",
    "Embeddings in all stores.",
    async () => (await totals()).embeddings,
    { across: "first" },
  );
  metrics.addGauge(
    "pgquiver_usage_bytes",
    "Bytes of text in all stores.",
    async () => (await totals()).usageBytes,
    { across: "first" },
  );
  metrics.addGauge(
    "pgquiver_files_in_progress",
    "Files of stores that are still to be processed.",
    async () => (await totals()).filesInProgress,
    { across: "first" },
  );
  metrics.addGauge(
    "pgquiver_index_builds",
    "Builds of vector indexes under way in the database.",
    async () => (await totals()).indexBuilds,
    { across: "first" },
  );
  metrics.addGauge(
    "pgquiver_index_build_progress",
    "Progress, 0 to 1, of the index build that is least far; absent when no build is running.",
    async () => (await totals()).indexProgress,
    { across: "first" },
  );
  monitorMeasuredRecall(metrics, totals);
  monitorBlockers(metrics, pool);
  if (replicas !== undefined) monitorReplicas(metrics, replicas);
}

function monitorMeasuredRecall(metrics: Metrics, totals: () => Promise<Totals>): void {
  metrics.addGauge(
    "pgquiver_lowest_recall",
    "Lowest recall of ten results that was measured of any store's index, by kind of search; absent when nothing was.",
    async () => (await totals()).lowestRecall,
    { label: "searches", across: "first" },
  );
  metrics.addGauge(
    "pgquiver_vector_stores_below_target_recall",
    "Stores of whose index less recall was measured than target_recall asks.",
    async () => (await totals()).belowTarget,
    { across: "first" },
  );
}

function monitorReplicas(metrics: Metrics, replicas: NonNullable<Database["replicas"]>): void {
  metrics.addGauge(
    "pgquiver_replicas",
    "Read replicas, by whether searches go to them.",
    () => {
      const states = replicas.states();
      const used = states.filter(({ problem }) => problem === undefined).length;
      return { used, unused: states.length - used };
    },
    { label: "state", across: "first" },
  );
  metrics.addGauge(
    "pgquiver_replica_lag_seconds",
    "Upper bound of a read replica's lag, by its index in DATABASE_REPLICA_URLS; absent when unknown.",
    () =>
      Object.fromEntries(
        replicas.states().flatMap(({ lagMs }, place) => (lagMs === undefined ? [] : [[place, lagMs / 1000]])),
      ),
    { label: "replica", across: "max" },
  );
}

/**
 * Registers the metrics of bulk ingest. Returns the counter of committed rows: call it with each commit's
 * rows.
 */
export function monitorIngest(metrics: Metrics, budget: ByteBudget): (rows: number) => void {
  metrics.addGauge(
    "pgquiver_ingest_memory_bytes",
    "Bytes of INGEST_MEMORY_BYTES that bulk ingest uses.",
    () => budget.used,
  );
  return metrics.addCounter("pgquiver_ingest_rows_total", "Rows that bulk ingest has written and committed.");
}

/** Registers the metric of comparisons with exact searches. Call the returned function with each one's duration. */
export function monitorRecall(metrics: Metrics): (durationMs: number) => void {
  return metrics.addDurations(
    "pgquiver_recall_comparison_seconds",
    "How long comparisons of a search by index with an exact search took.",
  );
}

/** Registers the metric of the queue of searches. */
export function monitorSearches(metrics: Metrics, queue: FairQueue): void {
  metrics.addGauge("pgquiver_searches_waiting", "Searches that wait for their turn.", () => queue.waiting);
}

/** Registers the counter of searches of tables on workers of a Citus cluster. */
export function monitorDirectReads(metrics: Metrics): (way: Way) => void {
  return metrics.addCounterBy(
    "pgquiver_citus_searches_total",
    "Searches of tables on nodes of a Citus cluster: direct, or through the coordinator and why.",
    "way",
  );
}

/** Registers the counter of calls that are refused for a limit or a quota. */
export function monitorLimits(metrics: Metrics): (limit: string) => void {
  return metrics.addCounterBy(
    "pgquiver_limited_total",
    "Calls refused because a project or a key has reached a limit or a quota, by its name.",
    "limit",
  );
}

/** Registers the metrics of the reranker. Returns a wrapper of `reranker` that updates them, and reports failures. */
export function monitorReranker(
  metrics: Metrics,
  reranker: Reranker,
  report: (error: unknown) => void,
): Reranker {
  const countTexts = metrics.addCounter("pgquiver_rerank_texts_total", "Texts that were ranked anew.");
  const countFailure = metrics.addCounter(
    "pgquiver_rerank_failures_total",
    "Requests to the reranking model that failed: the results keep their first order.",
  );
  const observe = metrics.addDurations(
    "pgquiver_rerank_duration_seconds",
    "How long the reranking model took for the candidates of a search.",
  );
  return {
    models: reranker.models,
    async score(model, query, texts, signal) {
      const startedAt = performance.now();
      try {
        const scores = await reranker.score(model, query, texts, signal);
        countTexts(texts.length);
        observe(performance.now() - startedAt);
        return scores;
      } catch (error) {
        if (signal.aborted) throw error;
        countFailure();
        report(error);
        throw error;
      }
    },
  };
}

/** Registers the metrics of the cache of queries' vectors; returns what counts a lookup. */
export function monitorQueryCache(metrics: Metrics): (isHit: boolean) => void {
  const countHit = metrics.addCounter(
    "pgquiver_query_cache_hits_total",
    "Texts of searches whose vector was in the cache.",
  );
  const countMiss = metrics.addCounter(
    "pgquiver_query_cache_misses_total",
    "Texts of searches that had to be embedded.",
  );
  return (isHit) => (isHit ? countHit() : countMiss());
}

/** Registers the metrics of the embedder. Returns a wrapper of `embedder` that updates them. */
export function monitorEmbedder(metrics: Metrics, embedder: Embedder): Embedder {
  const countTexts = metrics.addCounter("pgquiver_embedding_texts_total", "Texts that were embedded.");
  const countTokens = metrics.addCounter(
    "pgquiver_embedding_tokens_total",
    "Tokens of these texts, as counted by the embedding provider.",
  );
  const countFailure = metrics.addCounter(
    "pgquiver_embedding_failures_total",
    "Embedding calls that failed or were cancelled by the caller.",
  );
  const observe = metrics.addDurations(
    "pgquiver_embedding_duration_seconds",
    "How long the texts of one call took to be embedded, with retries.",
  );
  return wrapEmbedder(embedder, (watched) => ({
    async embed(texts, signal, patience) {
      const startedAt = performance.now();
      try {
        const embeddings = await watched.embed(texts, signal, patience);
        countTexts(texts.length);
        countTokens(embeddings.tokens);
        observe(performance.now() - startedAt);
        return embeddings;
      } catch (error) {
        countFailure();
        throw error;
      }
    },
  }));
}
