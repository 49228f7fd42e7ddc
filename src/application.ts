import type { FastifyInstance } from "fastify";
import { EmbeddingService } from "../gen/pgquiver/v1/embeddings_pb.ts";
import { IngestRequestSchema, IngestService } from "../gen/pgquiver/v1/ingest_pb.ts";
import { SearchService } from "../gen/pgquiver/v1/search_pb.ts";
import { VectorStoreService } from "../gen/pgquiver/v1/vector_stores_pb.ts";
import type { Config } from "./config.ts";
import type { Embedder } from "./embedding/embedder.ts";
import { cancelled, rateLimited } from "./errors.ts";
import { ByteBudget } from "./ingest/budget.ts";
import { toServiceError } from "./postgres/errors.ts";
import { ping, type Database } from "./postgres/pool.ts";
import { embeddingService } from "./service/embeddings.ts";
import { ingestService } from "./service/ingest.ts";
import { searchService } from "./service/search.ts";
import { vectorStoreService } from "./service/stores.ts";
import { deferField } from "./service/batch-bytes.ts";
import type { Admit } from "./wire/admission.ts";
import { defineService } from "./wire/call.ts";
import { createHealth } from "./wire/health.ts";
import { createServer, type ServerOptions } from "./wire/server.ts";

/** A built server with the way to end it. */
export interface Application {
  server: FastifyInstance;
  /**
   * Says NOT_SERVING, takes no new connections, lets calls in flight finish for at most `graceMs`,
   * then cuts what is left. The database stays open.
   */
  stop: (graceMs: number) => Promise<void>;
}

/** How often the database is looked at, and how long it may take to answer, for health checks. */
const HEALTH_INTERVAL_MS = 5_000;
const HEALTH_TIMEOUT_MS = 3_000;

/** Wires the services to a migrated database and an embedder. */
export async function createApplication(
  database: Database,
  embedder: Embedder,
  config: Pick<Config, "apiKeys" | "corsOrigins" | "requestBytesMax" | "logLevel" | "listen" | "ingest"> &
    Pick<ServerOptions, "port">,
): Promise<Application> {
  const draining = new AbortController();
  const ingest = ingestService(database, embedder, {
    budget: new ByteBudget(config.ingest.memoryBytes),
    // The other half of the pool is left to everybody else.
    atomicStreamsMax: Math.max(1, Math.floor((database.pool.options.max ?? 1) / 2)),
    idleMs: config.ingest.idleMs,
    messageBytesMax: config.requestBytesMax,
    draining: draining.signal,
  });
  const services = [
    defineService(VectorStoreService, vectorStoreService(database), toServiceError),
    defineService(EmbeddingService, embeddingService(database, embedder), toServiceError),
    {
      ...defineService(IngestService, ingest, toServiceError),
      binaryDesc: deferField(IngestService, IngestRequestSchema, "batch"),
      admit: admitArriving(config.ingest),
      uploadsMax: Math.max(1, Math.floor(config.ingest.memoryBytes / UPLOAD_BYTES)),
    },
    defineService(SearchService, searchService(database, embedder), toServiceError),
  ];
  const health = createHealth({
    services: services.map(({ desc }) => desc.typeName),
    check: () => ping(database, HEALTH_TIMEOUT_MS),
    intervalMs: HEALTH_INTERVAL_MS,
    timeoutMs: HEALTH_TIMEOUT_MS,
  });
  const shutdown = new AbortController();
  const server = await createServer({
    services,
    health,
    apiKeys: config.apiKeys,
    requestBytesMax: config.requestBytesMax,
    corsOrigins: config.corsOrigins,
    tls: config.listen.tls,
    port: config.port,
    logLevel: config.logLevel,
    shutdownSignal: shutdown.signal,
  });
  return {
    server,
    async stop(graceMs) {
      health.drain();
      draining.abort();
      const closed = server.close();
      const deadline = setTimeout(() => {
        shutdown.abort(cancelled());
        server.server.closeAllConnections();
      }, graceMs);
      await closed;
      clearTimeout(deadline);
      health.stop();
    },
  };
}

/** What an upload of NDJSON may hold before its rows are counted: a batch and a line, 4 MiB each. */
const UPLOAD_BYTES = 8 * 1024 * 1024;

/** The part of the memory for bulk ingest that, on top of it, messages may take until they are whole. */
const ARRIVING_SHARE = 1 / 8;

/** How long a message waits for memory, in parts of the time a client may be silent, which runs meanwhile. */
const ARRIVING_WAIT_SHARE = 1 / 2;

/** Bounds what the messages of all ingest streams take while they arrive. */
function admitArriving({ memoryBytes, idleMs }: Config["ingest"]): Admit {
  const budget = new ByteBudget(memoryBytes * ARRIVING_SHARE);
  return async (bytes, signal) => {
    const patience = AbortSignal.timeout(idleMs * ARRIVING_WAIT_SHARE);
    try {
      return await budget.reserve(bytes, AbortSignal.any([signal, patience]));
    } catch (error) {
      throw patience.aborted
        ? rateLimited("The service has no memory for more rows at the moment.", 1000)
        : error;
    }
  };
}
