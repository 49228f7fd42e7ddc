import type { DescService } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import type { FastifyBaseLogger, FastifyInstance } from "fastify";
import { AccessService } from "../gen/pgquiver/v1/access_pb.ts";
import { AuditService } from "../gen/pgquiver/v1/audit_pb.ts";
import { DiagnosticsService } from "../gen/pgquiver/v1/diagnostics_pb.ts";
import { EmbeddingService } from "../gen/pgquiver/v1/embeddings_pb.ts";
import { FileService } from "../gen/pgquiver/v1/files_pb.ts";
import { IndexService } from "../gen/pgquiver/v1/indexes_pb.ts";
import { IngestService } from "../gen/pgquiver/v1/ingest_pb.ts";
import { ModelService } from "../gen/pgquiver/v1/models_pb.ts";
import { SearchService } from "../gen/pgquiver/v1/search_pb.ts";
import { UsageService } from "../gen/pgquiver/v1/usage_pb.ts";
import { VectorStoreFileService } from "../gen/pgquiver/v1/vector_store_files_pb.ts";
import { VectorStoreService } from "../gen/pgquiver/v1/vector_stores_pb.ts";
import { ProjectDataService } from "../gen/pgquiver/v1/project_data_pb.ts";
import { KeyDirectory } from "./access/directory.ts";
import { CachedProjectLimits } from "./access/project-limits.ts";
import { guardReaders } from "./access/reader-guard.ts";
import { accessService } from "./access/service.ts";
import { isToken } from "./access/tokens.ts";
import type { AuditRecorder } from "./audit/recorder.ts";
import { auditService } from "./audit/service.ts";
import { ByteBudget } from "./api/byte-budget.ts";
import { Slots } from "./api/concurrency/slots.ts";
import { boundCalls } from "./api/rates/calls.ts";
import { Watches } from "./api/watching/watches.ts";
import type { Limits } from "./api/rates/limits.ts";
import { Limiter } from "./api/rates/limiter.ts";
import { admitArriving, admitBodies } from "./admission.ts";
import {
  startPipeline,
  startReembeddings,
  startTokens,
  startTrail,
  startTuner,
  startWorker,
} from "./background.ts";
import type { Config } from "./config.ts";
import { doors } from "./doors/doors.ts";
import { diagnosticsService } from "./diagnostics/service.ts";
import { keepVectorsPacked } from "./embeddings/request.ts";
import { embeddingService } from "./embeddings/service.ts";
import { createSearchQueue, startDirectReads, startSearches } from "./searches.ts";
import { Buckets } from "./files/buckets.ts";
import { fileService } from "./files/service.ts";
import { indexService } from "./indexes/service.ts";
import { endPostponement } from "./indexes/plan.ts";
import type { IndexWorker } from "./indexes/worker.ts";
import { keepBatchesEncoded } from "./ingest/binary-batch.ts";
import { ingestService } from "./ingest/service.ts";
import { limitOf } from "./errors.ts";
import type { Embedder } from "./models/embedder.ts";
import { modelService } from "./models/service.ts";
import { monitorDatabase, monitorEmbedder, monitorIngest, monitorLimits } from "./monitoring/gauges.ts";
import type { DirectReads } from "./postgres/citus/direct-reads.ts";
import type { Database } from "./postgres/database.ts";
import { toServiceError } from "./postgres/errors.ts";
import { ping } from "./postgres/connection/pool.ts";
import { restrictToCalls } from "./postgres/row-security/pool.ts";
import { RowSecurity } from "./postgres/row-security/row-security.ts";
import type { RecallTuner } from "./search/recall/tuner.ts";
import { projectDataService } from "./project-data/service.ts";
import { ErasureWorker } from "./project-data/worker.ts";
import { DEFAULT_PROJECT } from "./store-id.ts";
import { createShutdown, type Shutdown } from "./shutdown.ts";
import { meterEmbedder } from "./usage/metered.ts";
import { UsageRecorder } from "./usage/recorder.ts";
import { usageService } from "./usage/service.ts";
import type { Pipeline } from "./vector-store-files/pipeline.ts";
import { BatchLog } from "./vector-store-files/batch-log.ts";
import { vectorStoreFileService } from "./vector-store-files/service.ts";
import { AliasDirectory } from "./vector-stores/alias-directory.ts";
import type { ReembeddingWorker } from "./vector-stores/reembedding/worker.ts";
import { startExpirySweeper } from "./vector-stores/expiry-sweeper.ts";
import { vectorStoreService } from "./vector-stores/service.ts";
import { defineService } from "./wire/call.ts";
import { createHealth, type Health } from "./wire/grpc/health.ts";
import { createMetrics, type Metrics, type MetricValues, type ReadWhole } from "./wire/metrics.ts";
import { createServer, type ServerOptions } from "./wire/server.ts";
import type { Service } from "./wire/service.ts";

/** The server, built but not listening, and its shutdown. The database stays open. */
export interface Application extends Shutdown {
  server: FastifyInstance;
  /** The metrics of this process. */
  collectMetrics: () => Promise<MetricValues>;
  /** Whether the database has API keys, or had. */
  hasKeys: boolean;
}

/** Interval and timeout of the database's health check. */
const HEALTH_INTERVAL_MS = 5_000;
const HEALTH_TIMEOUT_MS = 3_000;

type ApplicationConfig = Pick<
  Config,
  | "apiKeys"
  | "tokens"
  | "audit"
  | "requiresKeys"
  | "rowSecurity"
  | "corsOrigins"
  | "requestBytesMax"
  | "requestMemoryBytes"
  | "listen"
  | "projectLimits"
  | "ingest"
  | "expiry"
  | "files"
  | "indexes"
  | "search"
  | "rerank"
> &
  Pick<ServerOptions, "port"> & {
    /** Polling interval of the index worker in milliseconds; default `INDEX_POLL_MS`. */
    indexPollMs?: number | undefined;
  };

/**
 * Connects the services to a migrated database and an embedder, and starts the background work: the file
 * pipeline, the index worker and the expiry sweeper.
 */
export async function createApplication(
  database: Database,
  provider: Embedder,
  config: ApplicationConfig,
  log: FastifyBaseLogger,
  readWhole?: ReadWhole,
): Promise<Application> {
  const metrics = createMetrics(readWhole);
  monitorDatabase(metrics, database);
  const bounds = await createBounds(database, metrics, config.projectLimits, log);
  const embedder = meterEmbedder(monitorEmbedder(metrics, provider), bounds.recorder);
  const buckets = new Buckets(config.files.bucketUrl);
  const draining = new AbortController();
  const indexWorker = config.indexes.isWorking
    ? startWorker(database, config.indexes, config.indexPollMs, log)
    : undefined;
  const recallTuner = startTuner(database, metrics, config.search.recallShare, log);
  const sweeper = startExpirySweeper(database, buckets, config.expiry, log);
  const directory = await KeyDirectory.open(database);
  const aliases = new AliasDirectory(database);
  const pipeline = startPipeline(
    { database, embedder, buckets, log, draining: draining.signal, ...bounds },
    config.files.workers,
  );
  const tokens = startTokens(config.tokens, directory, log);
  const trail = startTrail(database, metrics, config.audit, log);
  const erasures = new ErasureWorker(database, buckets, log);
  const security = await RowSecurity.open(database, config.rowSecurity, log);
  const calls = restrictToCalls(database, security);
  const reembeddings = startReembeddings(database, embedder, config.indexes, log);
  const direct = startDirectReads(database, config.search, metrics, log);
  const work = { pipeline, indexWorker, recallTuner, erasures, reembeddings, direct };
  const shared = { database, calls, trail, directory, aliases, ...bounds, embedder, buckets, metrics, log };
  const services = defineServices({ ...work, ...shared, draining: draining.signal }, config);
  const health = watchHealth(database, services);
  const shutdown = new AbortController();
  const access = { apiKeys: config.apiKeys, requiresKeys: config.requiresKeys, issuer: config.tokens };
  const server = await createServer({
    services,
    health,
    metrics,
    trail,
    doors,
    ...access,
    keys: directory,
    tokens: tokens && { isToken, find: (token, digest) => tokens.find(token, digest) },
    requestBytesMax: config.requestBytesMax,
    admitBody: admitBodies(config.requestMemoryBytes),
    limiter: bounds.limiter,
    corsOrigins: config.corsOrigins,
    tls: config.listen.tls,
    port: config.port,
    log,
    shutdownSignal: shutdown.signal,
  });
  const background = [...Object.values(work), sweeper, directory, aliases, tokens, security].filter(
    (work) => work !== undefined,
  );
  const ending = { buckets, trail, recorder: bounds.recorder, draining, cut: shutdown };
  const { stop, retire } = createShutdown({ server, health, background, ...ending });
  return { server, stop, retire, collectMetrics: metrics.collect, hasKeys: directory.exist };
}

function watchHealth(database: Database, services: readonly Service[]): Health {
  return createHealth({
    services: services.map(({ desc }) => desc.typeName),
    check: () => ping(database, HEALTH_TIMEOUT_MS),
    intervalMs: HEALTH_INTERVAL_MS,
    timeoutMs: HEALTH_TIMEOUT_MS,
  });
}

/** What holds callers to their limits, and counts what they use. */
interface Bounds {
  projectLimits: CachedProjectLimits;
  limiter: Limiter;
  /** Counts a call that was refused for a limit or a quota. */
  countLimited: (limit: string) => void;
  recorder: UsageRecorder;
}

async function createBounds(
  database: Database,
  metrics: Metrics,
  defaults: Limits,
  log: FastifyBaseLogger,
): Promise<Bounds> {
  const projectLimits = new CachedProjectLimits(database, defaults);
  // Calls with a key of the environment need no database, and wait for none.
  await projectLimits.find(DEFAULT_PROJECT);
  const countLimited = monitorLimits(metrics);
  const limiter = new Limiter(projectLimits, countLimited);
  return { projectLimits, countLimited, limiter, recorder: new UsageRecorder(database, log) };
}

/** The parts that the services share. */
interface Parts extends Bounds {
  database: Database;
  /** The database as calls may use it. */
  calls: Database;
  directory: KeyDirectory;
  aliases: AliasDirectory;
  trail: AuditRecorder;
  erasures: ErasureWorker;
  embedder: Embedder;
  buckets: Buckets;
  metrics: Metrics;
  /** Aborts when the shutdown begins. */
  draining: AbortSignal;
  pipeline: Pipeline;
  /** Undefined when INDEX_WORKER is off. */
  indexWorker: IndexWorker | undefined;
  /** Undefined when INDEX_WORKER is off. */
  reembeddings: ReembeddingWorker | undefined;
  /** Undefined when RECALL_SAMPLING_PERCENT is 0. */
  recallTuner: RecallTuner | undefined;
  /** Undefined when no search goes to a worker of a Citus cluster by itself. */
  direct: DirectReads | undefined;
  log: FastifyBaseLogger;
}

/** Makes the function that defines services, whose calls are bounded, counted and recorded. */
function createDefiner(parts: Parts) {
  const slots = new Slots(Infinity, CALLS_PER_CONNECTION * (parts.database.pool.options.max ?? 1));
  const translate = (error: unknown) => {
    const failure = toServiceError(error);
    const limit = limitOf(failure);
    if (limit !== undefined) parts.countLimited(limit);
    return failure;
  };
  return <S extends DescService>(desc: S, implementation: ServiceImpl<S>) =>
    defineService(
      desc,
      boundCalls(desc, guardReaders(desc, implementation, parts.calls), slots, parts.limiter),
      translate,
      parts.metrics.observeCall,
      parts.trail,
      parts.aliases,
    );
}

function defineServices(parts: Parts, config: ApplicationConfig): Service[] {
  const { database, calls, embedder, buckets, metrics, draining, pipeline, indexWorker, limiter, log } =
    parts;
  const wake = () => pipeline.wake();
  const { idleMs, memoryBytes } = config.ingest;
  const watches = new Watches(draining);
  const batches = new BatchLog(database, log, draining);
  const budget = new ByteBudget(memoryBytes);
  const ingest = ingestService(calls, embedder, {
    budget,
    limiter,
    watches,
    log,
    onCommitted: monitorIngest(metrics, budget),
    // Without this, an index would wait for the worker's next poll, or for the end of a postponement.
    onEnded: (storeId) =>
      void endPostponement(database, storeId)
        .catch((error: unknown) => log.warn({ err: error }, "An index will be built some seconds later"))
        .finally(() => indexWorker?.wake()),
    // At most half of the pool's connections: atomic streams must not starve other calls.
    atomicStreamsMax: Math.max(1, Math.floor((database.pool.options.max ?? 1) / 2)),
    // Few: a second connection shortens a stream's pauses, and other calls wait for connections meanwhile.
    secondConnectionsMax: Math.floor((database.pool.options.max ?? 1) / 4),
    idleMs,
    messageBytesMax: config.requestBytesMax,
    draining,
  });
  const admit = admitArriving(config.ingest);
  const define = createDefiner(parts);
  const queue = createSearchQueue(database, metrics, config.search.waitingMax);
  const { timeoutMs, textSearchLanguage } = config.search;
  const queries = { queue, timeoutMs, textSearchLanguage };
  return [
    define(
      VectorStoreService,
      vectorStoreService(calls, wake, config.indexes.language, parts.aliases, {
        embedder,
        watches,
        wake: () => parts.reembeddings?.wake(),
      }),
    ),
    define(VectorStoreFileService, vectorStoreFileService(calls, { wake, watches, batches })),
    {
      ...define(EmbeddingService, embeddingService(calls, embedder, limiter, queries)),
      binaryDesc: keepVectorsPacked(),
    },
    {
      ...define(IngestService, ingest),
      binaryDesc: keepBatchesEncoded(),
      admit,
      uploadsMax: Math.max(1, Math.floor(memoryBytes / UPLOAD_BYTES)),
    },
    define(
      IndexService,
      indexService(calls, () => indexWorker?.wake(), watches),
    ),
    {
      ...define(FileService, fileService(calls, buckets, { bytesMax: config.files.bytesMax, idleMs })),
      admit,
    },
    define(SearchService, startSearches({ ...parts, queue }, config)),
    define(DiagnosticsService, diagnosticsService(database, config.indexes)),
    define(ModelService, modelService(embedder)),
    // All projects, for callers of the default one.
    define(UsageService, usageService(restrictToCalls(database, { role: undefined }), parts.recorder)),
    define(AccessService, accessService(calls, parts.directory, parts.projectLimits)),
    define(AuditService, auditService(calls)),
    define(ProjectDataService, projectDataService(calls, buckets, config.indexes.language, parts.erasures)),
  ];
}

/**
 * Unary calls that one caller may have under way at the same time, per connection of the pool: half of the pool's
 * queue, in which most of them wait.
 */
const CALLS_PER_CONNECTION = 25;

/**
 * Memory that an NDJSON upload may hold before its rows are counted in the budget: a batch and a line, 4 MiB
 * each.
 */
const UPLOAD_BYTES = 8 * 1024 * 1024;
