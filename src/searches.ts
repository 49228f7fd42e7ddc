import type { ServiceImpl } from "@connectrpc/connect";
import type { FastifyBaseLogger } from "fastify";
import type { SearchService } from "../gen/pgquiver/v1/search_pb.ts";
import { FairQueue } from "./api/concurrency/fair-queue.ts";
import type { Config } from "./config.ts";
import { rateLimited } from "./errors.ts";
import { limits } from "./limits.ts";
import type { Embedder } from "./models/embedder.ts";
import { cacheQueries } from "./models/query-cache.ts";
import { createReranker } from "./models/reranker.ts";
import {
  monitorDirectReads,
  monitorQueryCache,
  monitorReranker,
  monitorSearches,
} from "./monitoring/gauges.ts";
import { DirectReads } from "./postgres/citus/direct-reads.ts";
import type { Database } from "./postgres/database.ts";
import type { RecallTuner } from "./search/recall/tuner.ts";
import { searchService } from "./search/service.ts";
import type { Metrics } from "./wire/metrics.ts";

/** What searches work with. */
interface Parts {
  /** The database as calls see it. */
  calls: Database;
  embedder: Embedder;
  metrics: Metrics;
  recallTuner: RecallTuner | undefined;
  queue: FairQueue;
  /** Undefined: no search goes to a worker of a cluster without the coordinator. */
  direct: DirectReads | undefined;
  log: FastifyBaseLogger;
}

/**
 * Maximum share of the pool's connections that searches may use together; the rest is reserved for other
 * calls.
 */
const SEARCH_SHARE = 3 / 4;

/** Connects SearchService to the queue of searches, the cache of queries and the reranking model. */
export function startSearches(
  { calls, embedder, metrics, recallTuner, queue, direct, log }: Parts,
  { search, rerank }: Pick<Config, "search" | "rerank">,
): ServiceImpl<typeof SearchService> {
  const cached = cacheQueries(embedder, search.queryCacheBytes, monitorQueryCache(metrics));
  const report = (err: unknown) =>
    log.warn({ err }, "The reranking model failed: results keep their first order");
  return searchService(calls, cached, search, queue, {
    observe: (storeId, query) => recallTuner?.note(storeId, query),
    reranker: rerank && monitorReranker(metrics, createReranker(rerank), report),
    direct,
  });
}

/** Starts searches on the workers of a cluster; undefined where there is none, or they are off. */
export function startDirectReads(
  database: Database,
  { isDirect }: Config["search"],
  metrics: Metrics,
  log: FastifyBaseLogger,
): DirectReads | undefined {
  if (database.citus === undefined || !isDirect) return undefined;
  return DirectReads.open(database, {
    counted: monitorDirectReads(metrics),
    changed: (node, problem) =>
      problem === undefined
        ? log.info(`Citus: searches go directly to the node ${node}`)
        : log.warn(`Citus: searches do not go directly to the node ${node}: ${problem}`),
  });
}

/** The admission of searches, and of queries without a vector: the turns of all that read many rows in this process. */
export function createSearchQueue(
  { pool, replicas }: Database,
  metrics: Metrics,
  waitingMax: number,
): FairQueue {
  const connections = Math.max(1, Math.floor((pool.options.max ?? 1) * SEARCH_SHARE));
  const servers = 1 + (replicas?.states().length ?? 0);
  const queue = new FairQueue({
    permits: connections * servers,
    waitingMax,
    waitMsMax: limits.search_wait_ms_max,
    refuse: () => rateLimited("The service is busy with other searches: try again later.", 1_000),
  });
  monitorSearches(metrics, queue);
  return queue;
}
