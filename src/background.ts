import type { ProjectLimits } from "./api/rates/limits.ts";
import type { FastifyBaseLogger } from "fastify";
import type { KeyDirectory } from "./access/directory.ts";
import { TokenVerifier } from "./access/tokens.ts";
import { AuditRecorder } from "./audit/recorder.ts";
import type { Config } from "./config.ts";
import { describeIsolation, findIsolation } from "./documents/isolation.ts";
import { createDocumentReader } from "./documents/reader.ts";
import type { Buckets } from "./files/buckets.ts";
import { openFile } from "./files/content.ts";
import { findFile } from "./files/rows.ts";
import { messageOf } from "./errors.ts";
import { startIndexWorker, type IndexOptions, type IndexWorker } from "./indexes/worker.ts";
import { limits } from "./limits.ts";
import type { Embedder } from "./models/embedder.ts";
import { monitorRecall } from "./monitoring/gauges.ts";
import type { Database } from "./postgres/database.ts";
import { RECALL_DEFAULTS, RecallTuner } from "./search/recall/tuner.ts";
import { ReembeddingWorker } from "./vector-stores/reembedding/worker.ts";
import { Pipeline, SMALL_WORKERS } from "./vector-store-files/pipeline.ts";
import type { Metrics } from "./wire/metrics.ts";

/**
 * Polling interval of the index worker: for stores that need an index, and for the advisory lock that lets
 * one process do this work.
 */
const INDEX_POLL_MS = 5_000;
/** How long a bulk ingest postpones an index: from the ingest's last progress, and at most. */
const INDEX_QUIET_MS = 5_000;
const INDEX_PATIENCE_MS = 600_000;

/** Starts the recording of the audit log. */
export function startTrail(
  database: Database,
  metrics: Metrics,
  { includesReads }: Config["audit"],
  log: FastifyBaseLogger,
): AuditRecorder {
  const onDrop = metrics.addCounter(
    "pgquiver_audit_dropped_total",
    "Entries of the audit log that were not written: refused calls, and those that AUDIT_READS adds.",
  );
  // A level above info must not leave entries out of the stream of the audit log.
  const level = log.level === "silent" ? "silent" : "info";
  return new AuditRecorder(database, { includesReads, onDrop }, log.child({}, { level }));
}

/** Starts the index worker. `pollMs` defaults to `INDEX_POLL_MS`. */
export function startWorker(
  database: Database,
  { thresholdBytes, memoryBytes, workers, language, shardBytes }: Config["indexes"],
  pollMs = INDEX_POLL_MS,
  log: FastifyBaseLogger,
): IndexWorker {
  const options: IndexOptions = {
    // An index build blocks the embedded database, and so the whole process: there an index is built on
    // request only.
    thresholdBytes: database.kind === "embedded" ? 0 : thresholdBytes,
    memoryBytes,
    workers,
    language,
    shardBytes,
    pollMs,
    quietMs: INDEX_QUIET_MS,
    patienceMs: INDEX_PATIENCE_MS,
    onStep: (step, vectorStoreId, durationMs) =>
      log.info(
        { vectorStoreId, step, durationMs },
        durationMs === undefined ? "index step begins" : "index step done",
      ),
  };
  return startIndexWorker(database, options, (error) =>
    log.warn({ err: error }, "The index worker failed and will retry"),
  );
}

/** Starts the worker that embeds stores with another model; undefined when INDEX_WORKER is off. */
export function startReembeddings(
  database: Database,
  embedder: Embedder,
  { isWorking, memoryBytes, workers, language }: Config["indexes"],
  log: FastifyBaseLogger,
): ReembeddingWorker | undefined {
  return isWorking
    ? new ReembeddingWorker(database, embedder, { memoryBytes, workers, language }, log)
    : undefined;
}

/** Starts the measuring and tuning of the recall of vector indexes; undefined when its share of the time is 0. */
export function startTuner(
  database: Database,
  metrics: Metrics,
  share: number,
  log: FastifyBaseLogger,
): RecallTuner | undefined {
  if (share === 0) return undefined;
  const options = { ...RECALL_DEFAULTS, share, onCompared: monitorRecall(metrics) };
  return new RecallTuner(database, options, (error) =>
    log.warn({ err: error }, "The recall of a store was not measured"),
  );
}

/**
 * Limits of reading one file; a file that exceeds them fails. The time is in proportion to the file's size, so
 * that a small file cannot hold a reading process for minutes.
 */
const READING_MEMORY_BYTES = 512 * 1024 * 1024;
const READING_TIMEOUT_MS = 20_000;
const READING_TIMEOUT_MS_PER_MIB = 10_000;
const READING_TIMEOUT_MS_MAX = 300_000;

/** What the pipeline of files needs. */
interface PipelineParts {
  database: Database;
  embedder: Embedder;
  buckets: Buckets;
  projectLimits: ProjectLimits;
  log: FastifyBaseLogger;
  /** Aborts when the service stops. */
  draining: AbortSignal;
}

/** Starts the pipeline that processes attached files, `workers` files at a time. */
export function startPipeline(
  { database, embedder, buckets, projectLimits, log, draining }: PipelineParts,
  workers: number,
): Pipeline {
  const reader = createDocumentReader({
    workers: workers + SMALL_WORKERS,
    memoryBytes: READING_MEMORY_BYTES,
    timeoutMs: READING_TIMEOUT_MS,
    timeoutMsPerMib: READING_TIMEOUT_MS_PER_MIB,
    timeoutMsMax: READING_TIMEOUT_MS_MAX,
    textBytesMax: limits.file_text_bytes_max,
    chunksMax: limits.file_chunks_max,
  });
  const findDocument = async (fileId: string) => {
    const file = await findFile(database.pool, database.tables, fileId);
    if (file === undefined) return undefined;
    const open = (signal: AbortSignal) => openFile(database, buckets, file, undefined, signal);
    return { filename: file.filename, bytes: Number(file.bytes), open };
  };
  if (workers > 0) {
    void findIsolation().then((isolation) => {
      if (draining.aborted) return;
      const { launcher: _, ...facts } = isolation;
      log.info(facts, `Files are read in processes of their own: ${describeIsolation(isolation)}`);
    });
  }
  return new Pipeline({ database, embedder, reader, findDocument }, workers, projectLimits, log);
}

/** Starts reading the keys of the identity provider; undefined: there is none. */
export function startTokens(
  settings: Config["tokens"],
  directory: KeyDirectory,
  log: FastifyBaseLogger,
): TokenVerifier | undefined {
  if (settings === undefined) return undefined;
  return new TokenVerifier({
    ...settings,
    hasProject: (id) => directory.hasProject(id),
    onFailure: (error) =>
      log.warn(
        `AUTH_JWKS_URL: the keys of the identity provider cannot be read: ${messageOf(causeOf(error))}`,
      ),
  });
}

/** What made a request fail: `fetch` itself says only that it has. */
function causeOf(error: unknown): unknown {
  return error instanceof TypeError && error.cause !== undefined ? error.cause : error;
}
