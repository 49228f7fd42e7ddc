import { availableParallelism } from "node:os";
import { createSecureContext } from "node:tls";
import { readProjectLimits } from "./settings/default-limits.ts";
import { limits } from "./limits.ts";
import { readTelemetry } from "./settings/telemetry.ts";
import { readCertificates, type TlsFiles } from "./wire/certificates.ts";
import { optional } from "./settings/variable.ts";
import { isLoopback, LOOPBACK, variables, type Settings } from "./settings/variables.ts";

/** Connections of the pool for each worker of `auto`: with fewer a slow call would block the worker's others. */
const WORKER_CONNECTIONS = 2;

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
  checkProviders(given, problems);
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
    citus: settings.CITUS,
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
    indexes: readIndexes(settings),
    search: {
      exactTimeoutMs:
        Math.min(settings.SEARCH_EXACT_TIMEOUT_SECONDS, settings.DATABASE_STATEMENT_TIMEOUT_SECONDS) * 1000,
      timeoutMs: settings.SEARCH_TIMEOUT_SECONDS * 1000,
      queryCacheBytes: settings.QUERY_CACHE_BYTES,
      isDirect: settings.CITUS_DIRECT === "auto",
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
    /** The embedder where there is no provider: "meaning", "lexical", or a directory with a model. */
    localModel: settings.EMBEDDING__MODEL ?? "meaning",
    former: readFormer(settings),
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

/** Settings of own tables and vector indexes. */
function readIndexes(settings: Settings) {
  return {
    isWorking: settings.INDEX_WORKER === "auto",
    thresholdBytes: settings.INDEX_THRESHOLD_BYTES,
    shardBytes: settings.CITUS_SHARD_BYTES,
    memoryBytes: settings.INDEX_BUILD_MEMORY_BYTES,
    workers: settings.INDEX_BUILD_WORKERS,
    language: settings.TEXT_SEARCH_LANGUAGE,
  };
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

/**
 * What embeds for stores whose vectors come from the model that was in use before: a provider or, without one, a local
 * model; undefined: nothing does.
 */
function readFormer(settings: Settings) {
  const { EMBEDDING__FORMER__MODEL: model, EMBEDDING__FORMER__BASE_URL: ownUrl } = settings;
  if (model === undefined) return undefined;
  const isOfProvider = ownUrl !== undefined || !isLocal(model);
  const embedding = readEmbedding({
    ...settings,
    EMBEDDING__MODEL: model,
    EMBEDDING__BASE_URL: isOfProvider ? (ownUrl ?? settings.EMBEDDING__BASE_URL) : undefined,
    // A key is for its own endpoint, and goes to no other.
    EMBEDDING__API_KEY:
      settings.EMBEDDING__FORMER__API_KEY ?? (ownUrl === undefined ? settings.EMBEDDING__API_KEY : undefined),
    EMBEDDING__DIMENSIONS: settings.EMBEDDING__FORMER__DIMENSIONS,
  });
  return { embedding: embedding && { ...embedding, prefix: "EMBEDDING__FORMER__" }, localModel: model };
}

/** Settings of the reranking provider; undefined: there is none. */
function readRerank(settings: Settings) {
  const { RERANK__BASE_URL: baseUrl, RERANK__MODEL: models, RERANK__API_KEY: apiKey = "" } = settings;
  const timeoutMs = settings.RERANK__TIMEOUT_SECONDS * 1000;
  return baseUrl === undefined ? undefined : { baseUrl, models, apiKey, timeoutMs };
}

/** The values of EMBEDDING__MODEL for the built-in embedders. */
const BUILT_IN = ["lexical", "meaning"];

/** Whether EMBEDDING__MODEL names a directory. */
const DIRECTORY = /^\.{0,2}\//;

/** Whether a model needs no provider. */
function isLocal(model: string): boolean {
  return BUILT_IN.includes(model) || DIRECTORY.test(model);
}

/** Without its URL a provider is half set. */
function checkProviders(given: Given, problems: string[]): void {
  const { EMBEDDING__BASE_URL: url, EMBEDDING__API_KEY: key, EMBEDDING__MODEL: model } = given;
  if (url === undefined && (key !== undefined || (model !== undefined && !isLocal(model))))
    problems.push(
      "EMBEDDING__BASE_URL: needed with EMBEDDING__API_KEY, and with an EMBEDDING__MODEL other than meaning, lexical and a directory (a path that begins with /, ./ or ../), such as http://localhost:4000 or https://api.openai.com/v1",
    );
  if (url !== undefined && model !== undefined && DIRECTORY.test(model))
    problems.push(
      "EMBEDDING__MODEL: a directory, which EMBEDDING__BASE_URL cannot serve: leave one of them out",
    );
  checkFormer(given, problems);
  if ((given["RERANK__BASE_URL"] === undefined) !== (given["RERANK__MODEL"] === undefined))
    problems.push("RERANK__BASE_URL and RERANK__MODEL: set both, or none");
}

function checkFormer(given: Given, problems: string[]): void {
  const { EMBEDDING__FORMER__MODEL: model, EMBEDDING__FORMER__BASE_URL: ownUrl } = given;
  const others = ["BASE_URL", "API_KEY", "DIMENSIONS"].map((name) => `EMBEDDING__FORMER__${name}`);
  const set = others.filter((name) => given[name] !== undefined);
  if (model === undefined) {
    if (set.length > 0) problems.push(`EMBEDDING__FORMER__MODEL: needed with ${set.join(", ")}`);
    return;
  }
  if (ownUrl !== undefined && DIRECTORY.test(model))
    problems.push(
      "EMBEDDING__FORMER__MODEL: a directory, which EMBEDDING__FORMER__BASE_URL cannot serve: leave one of them out",
    );
  if (ownUrl !== undefined || (set.length === 0 && isLocal(model))) return;
  if (isLocal(model) || given["EMBEDDING__BASE_URL"] === undefined)
    problems.push(
      "EMBEDDING__FORMER__BASE_URL: needed for a model of a provider, unless EMBEDDING__BASE_URL serves it too; the other " +
        "settings of EMBEDDING__FORMER__ are for such models only",
    );
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
