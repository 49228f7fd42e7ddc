import { pino, type Logger } from "pino";
import { createApplication } from "../../../src/application.ts";
import { readConfig, type Config } from "../../../src/config.ts";
import type { Embedder } from "../../../src/models/embedder.ts";
import { createLexicalEmbedder } from "../../../src/models/lexical.ts";
import type { Database } from "../../../src/postgres/database.ts";
import type { TlsFiles } from "../../../src/wire/certificates.ts";
import type { PortOptions } from "../../../src/wire/port.ts";
import { openTestDatabase } from "../databases/database.ts";

/** The complete service, on a free port of loopback. */
export interface TestServer extends AsyncDisposable {
  /** URL, such as `http://127.0.0.1:49152`. */
  url: string;
  /** Host and port, the form that grpc-js expects. */
  address: string;
  database: Database;
  /** Shuts the server down like SIGTERM, with this grace period. */
  stop: (graceMs: number) => Promise<void>;
}

export interface TestServerOptions {
  /** Default: a new database, closed with the server. */
  database?: Database;
  /** Default: the built-in embedder. */
  embedder?: Embedder;
  /** Default none. */
  apiKeys?: string[];
  /** Default "on", but on a Citus cluster, so that every test shows that calls can do their work under it. */
  rowSecurity?: Config["rowSecurity"];
  /** Default: no tokens. */
  tokens?: Config["tokens"];
  /** Default: as in production. */
  requestBytesMax?: number;
  /** Default: as in production. */
  requestMemoryBytes?: number;
  corsOrigins?: string[];
  /** Default: as in production. */
  audit?: Config["audit"];
  /** Default: as in production. */
  ingest?: Partial<Config["ingest"]>;
  /** Default: as in production. */
  files?: Partial<Config["files"]>;
  /** Default: as in production, but without the index worker. */
  indexes?: Partial<Config["indexes"]>;
  /** Default: as in production. */
  indexPollMs?: number;
  /** Default: as in production. */
  search?: Partial<Config["search"]>;
  /** Default: none. */
  rerank?: Config["rerank"];
  /** Default: as in production. */
  port?: PortOptions;
  /** Default: cleartext. */
  tls?: TlsFiles;
  /** Default: none. */
  log?: Logger;
}

/** The configuration of a service for which no variable is set. */
const production = readConfig({});

/** Low, because several test files build indexes on the same server concurrently. */
const INDEX_MEMORY_BYTES = 256 * 1024 * 1024;

/** Starts the service like `main.ts`. */
export async function startServer(options: TestServerOptions = {}): Promise<TestServer> {
  const database = options.database ?? (await openTestDatabase());
  const { server, stop } = await createApplication(
    database,
    options.embedder ?? createLexicalEmbedder(),
    {
      ...production,
      apiKeys: options.apiKeys ?? [],
      rowSecurity: options.rowSecurity ?? (database.citus === undefined ? "on" : "off"),
      tokens: options.tokens,
      corsOrigins: options.corsOrigins ?? [],
      audit: options.audit ?? production.audit,
      requestBytesMax: options.requestBytesMax ?? production.requestBytesMax,
      requestMemoryBytes: options.requestMemoryBytes ?? production.requestMemoryBytes,
      port: options.port,
      listen: { ...production.listen, tls: options.tls },
      ingest: { ...production.ingest, ...options.ingest },
      indexes: {
        ...production.indexes,
        isWorking: false,
        memoryBytes: INDEX_MEMORY_BYTES,
        ...options.indexes,
      },
      indexPollMs: options.indexPollMs,
      search: { ...production.search, ...options.search },
      rerank: options.rerank,
      expiry: { ...production.expiry, sweepSeconds: 0 },
      files: { ...production.files, ...options.files },
    },
    options.log ?? pino({ level: "silent" }),
  );
  const url = await server.listen({ host: "127.0.0.1", port: 0 });
  let stopped: Promise<void> | undefined;
  const stopOnce = (graceMs: number) => (stopped ??= stop(graceMs));
  return {
    url,
    address: url.replace("http://", ""),
    database,
    stop: stopOnce,
    async [Symbol.asyncDispose]() {
      await stopOnce(0);
      if (options.database === undefined) await database.close();
    },
  };
}
