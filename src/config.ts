import { availableParallelism } from "node:os";
import { createSecureContext } from "node:tls";
import { z } from "zod";
import { readProjectLimits } from "./default-limits.ts";
import { limits } from "./limits.ts";
import { readTelemetry } from "./telemetry.ts";
import { readCertificates, type TlsFiles } from "./wire/certificates.ts";
import { identifier, integer, list, optional, share, url, word } from "./variable.ts";
import { findUrlFault, readServers } from "./postgres/connection/url.ts";

const WORKERS_MAX = 64;
/** Connections of the pool for each worker of `auto`: with fewer a slow call would block the worker's others. */
const WORKER_CONNECTIONS = 2;

const workers = optional.transform((value, context): number | "auto" => {
  if (value?.toLowerCase() === "auto") return "auto";
  const number = Number(value ?? 1);
  if (Number.isInteger(number) && number >= 1 && number <= WORKERS_MAX) return number;
  context.addIssue(`expected auto or an integer from 1 to ${WORKERS_MAX}, but got "${value}"`);
  return z.NEVER;
});

/** Over http anybody on the way could answer with keys of their own. */
const jwksUrl = optional.transform((value, context) => {
  if (value === undefined) return undefined;
  const parsed = URL.canParse(value) ? new URL(value) : undefined;
  if (parsed?.protocol === "https:") return value;
  if (parsed?.protocol === "http:" && isLoopback(parsed.hostname.replace(/^\[|\]$/g, ""))) return value;
  context.addIssue("expected a URL that begins with https://, or with http:// and a host of loopback");
  return z.NEVER;
});

const postgresUrl = optional.transform((value, context) => {
  const fault = value === undefined ? undefined : findUrlFault(value);
  if (fault === undefined) return value;
  context.addIssue(fault);
  return z.NEVER;
});

const postgresUrls = list.transform((values, context) => {
  for (const value of values) {
    const fault = findUrlFault(value);
    if (fault !== undefined) context.addIssue(fault);
    else if (readServers(value).urls.length > 1)
      context.addIssue("expected one host in the URL of each replica");
  }
  return values;
});

/**
 * Every environment variable of the service, by name, with its default and range. A test holds
 * docs/configuration.md to this object.
 */
export const variables = z.object({
  DATABASE_URL: postgresUrl,
  DATABASE_DIRECT_URL: postgresUrl,
  DATABASE_POOL_MAX: integer(10, 1, 1000),
  DATABASE_STATEMENT_TIMEOUT_SECONDS: integer(60, 1, 3600),
  DATABASE_WAIT_SECONDS: integer(60, 0, 3600),
  DATABASE_REPLICA_URLS: postgresUrls,
  DATABASE_REPLICA_LAG_SECONDS: integer(5, 1, 300),
  ROW_LEVEL_SECURITY: word(["auto", "on", "off"], "auto"),
  DATA_DIRECTORY: optional.transform((value) => value ?? ".pgquiver"),
  SERVER_API_KEY: list,
  OPENAI_API_KEY: list,
  AUTH_JWKS_URL: jwksUrl,
  AUTH_ISSUER: optional,
  AUTH_AUDIENCE: list,
  AUTH_CLOCK_SKEW_SECONDS: integer(5, 0, 300),
  AUTH_PROJECT_CLAIM: optional.transform((value) => value ?? "pgquiver_project"),
  AUTH_SCOPES_CLAIM: optional.transform((value) => value ?? "scope"),
  AUTH_STORES_CLAIM: optional,
  AUTH_READERS_CLAIM: optional.transform((value) => value ?? "groups"),
  WORKERS: workers,
  LIMIT_REQUESTS_PER_MINUTE: integer(0, 0, 1_000_000_000),
  LIMIT_ROWS_PER_SECOND: integer(0, 0, 1_000_000_000),
  LIMIT_CONCURRENT_SEARCHES: integer(0, 0, 1_000_000),
  LIMIT_CONCURRENT_STREAMS: integer(0, 0, 1_000_000),
  LIMIT_INGEST_MEMORY_PERCENT: integer(0, 0, 100),
  LIMIT_FILE_WORKERS: integer(0, 0, 64),
  HOST: optional,
  PORT: integer(8000, 0, 65_535),
  TLS_CERT_FILE: optional,
  TLS_KEY_FILE: optional,
  TLS_CLIENT_CA_FILE: optional,
  CORS_ORIGINS: list,
  REQUEST_BYTES_MAX: integer(32 * 1024 * 1024, 1024, 1024 * 1024 * 1024),
  REQUEST_MEMORY_BYTES: integer(128 * 1024 * 1024, 1024 * 1024, 64 * 1024 * 1024 * 1024),
  // With this default, 200 slow clients or a stalled database add less than 256 MiB to the process.
  INGEST_MEMORY_BYTES: integer(96 * 1024 * 1024, 1024 * 1024, 64 * 1024 * 1024 * 1024),
  INGEST_IDLE_SECONDS: integer(30, 1, 3600),
  AUDIT_READS: word(["true", "false"], "false"),
  AUDIT_RETENTION_DAYS: integer(90, 1, 36_500),
  EXPIRY_SWEEP_SECONDS: integer(60, 0, 86_400),
  EXPIRY_GRACE_SECONDS: integer(86_400, 60, 31_536_000),
  FILE_BYTES_MAX: integer(512 * 1024 * 1024, 1024, 32 * 1024 * 1024 * 1024),
  FILES_BUCKET_URL: url(["s3"]),
  FILE_WORKERS: integer(4, 0, 64),
  INDEX_WORKER: word(["auto", "off"], "auto"),
  // 8,500 vectors of 1,536 dimensions: an exact search takes four times as long as one by the index (bench/README.md).
  INDEX_THRESHOLD_BYTES: integer(50 * 1024 * 1024, 0, Number.MAX_SAFE_INTEGER),
  INDEX_BUILD_MEMORY_BYTES: integer(1024 * 1024 * 1024, 64 * 1024 * 1024, 1024 * 1024 * 1024 * 1024),
  INDEX_BUILD_WORKERS: integer(2, 0, 1024),
  RECALL_SAMPLING_PERCENT: integer(2, 0, 100),
  SEARCH_EXACT_TIMEOUT_SECONDS: integer(10, 1, 3600),
  SEARCH_TIMEOUT_SECONDS: integer(20, 1, 3600),
  // Some 2,500 queries of 1,536 dimensions.
  QUERY_CACHE_BYTES: integer(16 * 1024 * 1024, 0, 1024 * 1024 * 1024),
  TEXT_SEARCH_LANGUAGE: optional.transform((value) => value ?? "english"),
  OTEL_SDK_DISABLED: word(["true", "false"], "false"),
  OTEL_EXPORTER_OTLP_ENDPOINT: url(["http", "https"]),
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: url(["http", "https"]),
  OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: url(["http", "https"]),
  OTEL_EXPORTER_OTLP_PROTOCOL: word(["http/protobuf"], "http/protobuf"),
  OTEL_TRACES_EXPORTER: word(["otlp", "none"], "otlp"),
  OTEL_METRICS_EXPORTER: word(["otlp", "none"], "otlp"),
  OTEL_TRACES_SAMPLER: word(
    [
      "always_on",
      "always_off",
      "traceidratio",
      "parentbased_always_on",
      "parentbased_always_off",
      "parentbased_traceidratio",
    ],
    "parentbased_always_on",
  ),
  OTEL_TRACES_SAMPLER_ARG: share,
  OTEL_BSP_SCHEDULE_DELAY: integer(5_000, 1, 3_600_000),
  OTEL_BSP_MAX_QUEUE_SIZE: integer(2_048, 1, 1_000_000),
  OTEL_METRIC_EXPORT_INTERVAL: integer(60_000, 1_000, 86_400_000),
  SHUTDOWN_DELAY_SECONDS: integer(0, 0, 300),
  SHUTDOWN_GRACE_SECONDS: integer(20, 0, 3600),
  LOG_LEVEL: word(["trace", "debug", "info", "warn", "error", "fatal", "silent"], "info"),
  LOG_FORMAT: word(["auto", "json", "text"], "auto"),
  EMBEDDING__MODEL: optional,
  EMBEDDING__BASE_URL: url(["http", "https"]),
  EMBEDDING__API_KEY: optional,
  EMBEDDING__DIMENSIONS: integer(0, 0, 16_000),
  EMBEDDING__SEND_DIMENSIONS: word(["auto", "true", "false"], "auto"),
  EMBEDDING__ENCODING_FORMAT: word(["omit", "float", "base64"], "omit"),
  EMBEDDING__BATCH_SIZE: integer(256, 1, 2048),
  EMBEDDING__CONCURRENCY: integer(4, 1, 64),
  // At most 300 s, because Node's fetch has a timeout of 300 s for the headers of a response.
  EMBEDDING__TIMEOUT_SECONDS: integer(60, 1, 300),
  EMBEDDING__RETRIES: integer(2, 0, 10),
  RERANK__BASE_URL: url(["http", "https"]),
  RERANK__MODEL: list,
  RERANK__API_KEY: optional,
  RERANK__TIMEOUT_SECONDS: integer(10, 1, 300),
  DB_FIELDS__ID_FIELD: identifier,
  DB_FIELDS__CONTENT_FIELD: identifier,
  DB_FIELDS__METADATA_FIELD: identifier,
  DB_FIELDS__EMBEDDING_FIELD: identifier,
  DB_FIELDS__VECTOR_STORE_ID_FIELD: identifier,
  DB_FIELDS__CREATED_AT_FIELD: identifier,
  DB_TABLES__VECTOR_STORES: identifier,
  DB_TABLES__EMBEDDINGS: identifier,
});

/** The raw values of the variables, by name. */
type Given = Record<string, string | undefined>;

/** The settings of the process, grouped by their readers. */
export type Config = ReturnType<typeof readConfig>;

/**
 * Reads the settings from the environment. Names may also be in lower case, as in litellm-pgvector. Throws a
 * single Error that lists all problems.
 */
export function readConfig(environment: Record<string, string | undefined>) {
  const given = readGiven(environment);
  const parsed = variables.safeParse(given);
  const problems = parsed.error?.issues.map((issue) => `${issue.path.join(".")}: ${issue.message}`) ?? [];
  const tls = readTls(given, problems);
  if (isProviderHalfSet(given)) {
    problems.push(
      "EMBEDDING__BASE_URL: needed with EMBEDDING__API_KEY, and with an EMBEDDING__MODEL other than meaning and lexical, such as http://localhost:4000 or https://api.openai.com/v1",
    );
  }
  if ((given["RERANK__BASE_URL"] === undefined) !== (given["RERANK__MODEL"] === undefined))
    problems.push("RERANK__BASE_URL and RERANK__MODEL: set both, or none");
  if ((parsed.data?.DATABASE_REPLICA_URLS ?? []).length > 0 && given["DATABASE_URL"] === undefined)
    problems.push("DATABASE_REPLICA_URLS: needs DATABASE_URL, the primary they are replicas of");
  checkTokens(given, problems);
  const settings = parsed.data;
  if (settings === undefined || problems.length > 0)
    throw new Error(`The configuration is invalid:\n${problems.map((problem) => `  ${problem}`).join("\n")}`);
  const apiKeys = [...new Set([...settings.SERVER_API_KEY, ...settings.OPENAI_API_KEY])];
  const tokens = readTokens(settings);
  const isGuarded = apiKeys.length > 0 || tokens !== undefined;
  const requiresKeys = isGuarded || !isLoopback(settings.HOST ?? LOOPBACK);
  return {
    workers: readWorkers(settings),
    listen: { host: readHost(settings.HOST, isGuarded), port: settings.PORT, tls },
    apiKeys,
    tokens,
    requiresKeys,
    rowSecurity: settings.ROW_LEVEL_SECURITY,
    corsOrigins: readOrigins(settings.CORS_ORIGINS, requiresKeys),
    requestBytesMax: settings.REQUEST_BYTES_MAX,
    requestMemoryBytes: settings.REQUEST_MEMORY_BYTES,
    projectLimits: readProjectLimits(settings),
    ingest: { memoryBytes: settings.INGEST_MEMORY_BYTES, idleMs: settings.INGEST_IDLE_SECONDS * 1000 },
    files: {
      bytesMax: settings.FILE_BYTES_MAX,
      bucketUrl: settings.FILES_BUCKET_URL,
      workers: settings.FILE_WORKERS,
    },
    expiry: {
      sweepSeconds: settings.EXPIRY_SWEEP_SECONDS,
      graceSeconds: settings.EXPIRY_GRACE_SECONDS,
      auditDays: settings.AUDIT_RETENTION_DAYS,
    },
    audit: { includesReads: settings.AUDIT_READS === "true" },
    indexes: {
      isWorking: settings.INDEX_WORKER === "auto",
      thresholdBytes: settings.INDEX_THRESHOLD_BYTES,
      memoryBytes: settings.INDEX_BUILD_MEMORY_BYTES,
      workers: settings.INDEX_BUILD_WORKERS,
      language: settings.TEXT_SEARCH_LANGUAGE,
    },
    search: {
      exactTimeoutMs:
        Math.min(settings.SEARCH_EXACT_TIMEOUT_SECONDS, settings.DATABASE_STATEMENT_TIMEOUT_SECONDS) * 1000,
      timeoutMs: settings.SEARCH_TIMEOUT_SECONDS * 1000,
      queryCacheBytes: settings.QUERY_CACHE_BYTES,
      recallShare: settings.RECALL_SAMPLING_PERCENT / 100,
      waitingMax: limits.searches_waiting_max as number,
      textSearchLanguage: settings.TEXT_SEARCH_LANGUAGE,
    },
    shutdown: {
      delayMs: settings.SHUTDOWN_DELAY_SECONDS * 1000,
      graceMs: settings.SHUTDOWN_GRACE_SECONDS * 1000,
    },
    databaseWaitMs: settings.DATABASE_WAIT_SECONDS * 1000,
    database: readDatabase(settings),
    embedding: readEmbedding(settings),
    telemetry: readTelemetry(settings),
    rerank: readRerank(settings),
    /** Whether the built-in embedder matches words only. */
    isLexical: settings.EMBEDDING__MODEL === "lexical",
  };
}

/**
 * Reads the settings of the log. Invalid values count as unset here, so that the errors of `readConfig` can
 * be logged.
 */
export function readLogConfig(environment: Record<string, string | undefined>) {
  const { LOG_LEVEL: level, LOG_FORMAT: format } = variables.shape;
  const given = readGiven(environment);
  return {
    level: level.safeParse(given["LOG_LEVEL"]).data ?? "info",
    format: format.safeParse(given["LOG_FORMAT"]).data ?? "auto",
    isTraced:
      (given["OTEL_EXPORTER_OTLP_ENDPOINT"] ?? given["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"]) !== undefined,
  };
}

function readGiven(environment: Record<string, string | undefined>): Given {
  const names = Object.keys(variables.shape);
  return Object.fromEntries(
    names.map((name) => [name, optional.parse(environment[name] ?? environment[name.toLowerCase()])]),
  );
}

/** The parsed values of the variables. */
type Settings = z.infer<typeof variables>;

/**
 * The number of processes that serve. `isRefused`: more were asked for than the embedded database takes, which
 * belongs to one process.
 */
function readWorkers(settings: Settings): { count: number; isRefused: boolean } {
  const { WORKERS: asked, DATABASE_POOL_MAX: poolMax } = settings;
  if (settings.DATABASE_URL === undefined) return { count: 1, isRefused: asked !== 1 };
  const cores = () => Math.min(availableParallelism(), Math.floor(poolMax / WORKER_CONNECTIONS));
  return { count: asked === "auto" ? Math.max(1, cores()) : asked, isRefused: false };
}

/** Least time between two fetches of an identity provider's keys for tokens that name a key which is not known. */
const JWKS_COOLDOWN_MS = 5_000;

/** Without an issuer and an audience, a token that the provider made for another service would be taken. */
function checkTokens(given: Given, problems: string[]): void {
  const wanting = ["AUTH_ISSUER", "AUTH_AUDIENCE"].filter((name) => given[name] === undefined);
  if (given["AUTH_JWKS_URL"] !== undefined && wanting.length > 0)
    problems.push(`${wanting.join(", ")}: needed with AUTH_JWKS_URL`);
}

/** Settings of the identity provider; undefined: no tokens are taken. */
function readTokens(settings: Settings) {
  const { AUTH_JWKS_URL: jwksUrl, AUTH_ISSUER: issuer } = settings;
  if (jwksUrl === undefined || issuer === undefined) return undefined;
  return {
    jwksUrl,
    issuer,
    audiences: settings.AUTH_AUDIENCE,
    clockSkewSeconds: settings.AUTH_CLOCK_SKEW_SECONDS,
    claims: {
      project: settings.AUTH_PROJECT_CLAIM,
      scopes: settings.AUTH_SCOPES_CLAIM,
      stores: settings.AUTH_STORES_CLAIM,
      readers: settings.AUTH_READERS_CLAIM,
    },
    jwksCooldownMs: JWKS_COOLDOWN_MS,
  };
}

function readDatabase(settings: Settings) {
  return {
    url: settings.DATABASE_URL,
    directUrl: settings.DATABASE_DIRECT_URL,
    directory: settings.DATA_DIRECTORY,
    poolMax: settings.DATABASE_POOL_MAX,
    processes: 1,
    statementTimeoutMs: settings.DATABASE_STATEMENT_TIMEOUT_SECONDS * 1000,
    replicaUrls: settings.DATABASE_REPLICA_URLS,
    replicaLagMaxMs: settings.DATABASE_REPLICA_LAG_SECONDS * 1000,
    names: {
      vectorStores: settings.DB_TABLES__VECTOR_STORES,
      embeddings: settings.DB_TABLES__EMBEDDINGS,
      fields: {
        id: settings.DB_FIELDS__ID_FIELD,
        content: settings.DB_FIELDS__CONTENT_FIELD,
        metadata: settings.DB_FIELDS__METADATA_FIELD,
        embedding: settings.DB_FIELDS__EMBEDDING_FIELD,
        vectorStoreId: settings.DB_FIELDS__VECTOR_STORE_ID_FIELD,
        createdAt: settings.DB_FIELDS__CREATED_AT_FIELD,
      },
    },
  };
}

/** Settings of the embedding provider; undefined: the built-in embedder. */
function readEmbedding(settings: Settings) {
  if (settings.EMBEDDING__BASE_URL === undefined) return undefined;
  return {
    baseUrl: settings.EMBEDDING__BASE_URL,
    model: settings.EMBEDDING__MODEL ?? "text-embedding-ada-002",
    // Empty: no Authorization header is sent.
    apiKey: settings.EMBEDDING__API_KEY ?? "",
    dimensions: settings.EMBEDDING__DIMENSIONS === 0 ? undefined : settings.EMBEDDING__DIMENSIONS,
    sendDimensions: readSwitch(settings.EMBEDDING__SEND_DIMENSIONS),
    encodingFormat: settings.EMBEDDING__ENCODING_FORMAT,
    batchTextsMax: settings.EMBEDDING__BATCH_SIZE,
    concurrency: settings.EMBEDDING__CONCURRENCY,
    timeoutMs: settings.EMBEDDING__TIMEOUT_SECONDS * 1000,
    retriesMax: settings.EMBEDDING__RETRIES,
  };
}

/** Settings of the reranking provider; undefined: there is none. */
function readRerank(settings: Settings) {
  const { RERANK__BASE_URL: baseUrl, RERANK__MODEL: models, RERANK__API_KEY: apiKey = "" } = settings;
  const timeoutMs = settings.RERANK__TIMEOUT_SECONDS * 1000;
  return baseUrl === undefined ? undefined : { baseUrl, models, apiKey, timeoutMs };
}

/** The values of EMBEDDING__MODEL for the built-in embedders. */
const BUILT_IN = ["lexical", "meaning"];

function isProviderHalfSet(given: Given): boolean {
  const { EMBEDDING__BASE_URL: url, EMBEDDING__API_KEY: key, EMBEDDING__MODEL: model } = given;
  return url === undefined && (key !== undefined || (model !== undefined && !BUILT_IN.includes(model)));
}

const LOOPBACK = "127.0.0.1";

function isLoopback(host: string): boolean {
  return /^(?:127(?:\.\d{1,3}){3}|::1|localhost)$/i.test(host);
}

/** The address to listen on: HOST, by default all with keys or an identity provider in the environment, else loopback. */
function readHost(host: string | undefined, hasKey: boolean): string {
  const name = (host ?? (hasKey ? "0.0.0.0" : LOOPBACK)).toLowerCase();
  // For "localhost" Fastify would listen on 127.0.0.1 and ::1, with a separate server for each.
  return name === "localhost" ? LOOPBACK : name;
}

/**
 * The origins allowed by CORS. With API keys the default is every origin, as in litellm-pgvector: browsers do
 * not add a bearer key by themselves. Without keys the default is none: otherwise any web page could call the
 * service on the visitor's machine.
 */
function readOrigins(origins: readonly string[], requiresKeys: boolean): readonly string[] {
  if (origins.length > 0) return origins;
  return requiresKeys ? ["*"] : [];
}

function readSwitch(value: "auto" | "true" | "false"): "auto" | boolean {
  return value === "auto" ? "auto" : value === "true";
}

/**
 * Validates the TLS files: they can be read, and the key matches the certificate. The server reads the files
 * itself, and again when they change.
 */
function readTls(given: Given, problems: string[]): TlsFiles | undefined {
  const { TLS_CERT_FILE: cert, TLS_KEY_FILE: key, TLS_CLIENT_CA_FILE: clientCa } = given;
  if (cert === undefined && key === undefined && clientCa === undefined) return undefined;
  if (cert === undefined || key === undefined) {
    const also = clientCa === undefined ? "" : ", which TLS_CLIENT_CA_FILE needs";
    problems.push(`TLS_CERT_FILE, TLS_KEY_FILE: set both or neither${also}`);
    return undefined;
  }
  const files = { cert, key, clientCa };
  try {
    createSecureContext(readCertificates(files));
    return files;
  } catch (error) {
    problems.push(`TLS_CERT_FILE, TLS_KEY_FILE, TLS_CLIENT_CA_FILE: ${(error as Error).message}`);
    return undefined;
  }
}
