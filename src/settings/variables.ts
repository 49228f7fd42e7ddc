import { z } from "zod";
import { findUrlFault, readServers } from "../postgres/connection/url.ts";
import { identifier, integer, list, optional, share, url, word } from "./variable.ts";

/** The default of HOST. */
export const LOOPBACK = "127.0.0.1";

/** Whether a host is this machine's loopback interface. */
export function isLoopback(host: string): boolean {
  return /^(?:127(?:\.\d{1,3}){3}|::1|localhost)$/i.test(host);
}

const WORKERS_MAX = 64;

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
  CITUS: word(["auto", "off"], "off"),
  CITUS_DIRECT: word(["auto", "off"], "auto"),
  CITUS_SHARD_BYTES: integer(0, 0, Number.MAX_SAFE_INTEGER),
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
  LIMIT_CONNECTION_PERCENT: integer(0, 0, 100),
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
  EMBEDDING__FORMER__MODEL: optional,
  EMBEDDING__FORMER__BASE_URL: url(["http", "https"]),
  EMBEDDING__FORMER__API_KEY: optional,
  EMBEDDING__FORMER__DIMENSIONS: integer(0, 0, 16_000),
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

/** The parsed values of the variables. */
export type Settings = z.infer<typeof variables>;
