import pg from "pg";
import { conflict, deadlineExceeded, invalidArgument, rateLimited, unavailable } from "../errors.ts";
import { FullDiskError } from "./embedded/disk.ts";

/** Long enough for a restarted server or a fail-over's first moments, short enough not to be noticed. */
const RETRY_AFTER_MS = 1000;

/** Errors of the operating system by which a server is away; ENOENT is a Unix socket that is not there. */
const NETWORK_CODES = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  "ENOENT",
]);

/** pg-pool gives an exhausted pool no code, only this text (pg-pool/index.js, `connect`). */
const POOL_EXHAUSTED = "timeout exceeded when trying to connect";

/** Nor do node-postgres and its pool give these a code (pg/lib/client.js, pg-pool/index.js). */
const CONNECTION_LOST = new Set([
  "Connection terminated",
  "Connection terminated unexpectedly",
  "Connection terminated due to connection timeout",
  "timeout expired",
  "Client has encountered a connection error and is not queryable",
  "Client was closed and is not queryable",
  "Cannot use a pool after calling end on the pool",
]);

/**
 * Turns what Postgres, node-postgres or the network threw into an error fit for the caller. What has no meaning for
 * the caller comes back unchanged, and so do errors that are fit already.
 * Reference: PostgreSQL manual, appendix A, "PostgreSQL Error Codes".
 */
export function toServiceError(error: unknown): unknown {
  if (isAway(error)) return passing("The database cannot be reached.", error);
  if (error instanceof FullDiskError) return passing(FULL_DISK, error);
  if (error instanceof pg.DatabaseError) return fromSqlState(error);
  return isExhausted(error) ? rateLimited("All database connections are busy.", RETRY_AFTER_MS) : error;
}

/** read_only_sql_transaction: what a server says that was demoted, or that was told so because its disk is full. */
const READ_ONLY = "25006";

const FULL_DISK = "The database has no room on its disk at the moment.";

function fromSqlState(error: pg.DatabaseError): unknown {
  switch (error.code) {
    case "57014": // query_canceled, also by statement_timeout
      return deadlineExceeded("The database took longer than allowed.", error);
    case "22021": // character_not_in_repertoire
    case "22P05": // untranslatable_character
    case "22P02": // invalid_text_representation
      return invalidArgument(undefined, "A text has a character or a form that the database cannot store.");
    case "22003": // numeric_value_out_of_range
      return invalidArgument(undefined, "A number is out of the range that the database can store.");
    case READ_ONLY:
      return passing("The database takes no writes at the moment.", error);
    case "53100": // disk_full
      return passing(FULL_DISK, error);
    case "53200": // out_of_memory
      return passing("The database is out of memory at the moment.", error);
    case "40001": // serialization_failure
    case "40P01": // deadlock_detected
      return conflict(error);
    case "42P01": // undefined_table
    case "42501": // insufficient_privilege
    case "3F000": // invalid_schema_name
      return unavailable("SCHEMA_MISSING", "The database is not set up for this service.", { cause: error });
    case "42P05": // duplicate_prepared_statement
    case "26000": // invalid_sql_statement_name
      return new Error(`${error.message}. ${BOUNCER_HINT}`, { cause: error });
    default:
      return error;
  }
}

const BOUNCER_HINT =
  "A pooler such as PgBouncer in transaction mode is in between: add pgbouncer=true to the query of DATABASE_URL.";

/** What an operator is to do about an error of a connection or a statement, where its message does not tell. */
export function hintFor(error: unknown): string | undefined {
  // Newer versions say "unsupported startup parameter in options: …".
  const isRefused = error instanceof Error && error.message.startsWith("unsupported startup parameter");
  return isRefused ? BOUNCER_HINT : undefined;
}

function passing(message: string, cause: unknown): unknown {
  return unavailable("DATABASE_UNAVAILABLE", message, { retryAfterMs: RETRY_AFTER_MS, cause });
}

/** SQLSTATEs by which a server turns connections away or ends them. */
const AWAY_STATES = new Set([
  "57P01", // admin_shutdown
  "57P02", // crash_shutdown
  "57P03", // cannot_connect_now
  "57P04", // database_dropped
  "53300", // too_many_connections
]);

/** Whether the connection broke or could not be made. */
export function isAway(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) {
    const { code = "" } = error;
    // 08P01 is a malformed message: a fault of ours, not of the connection.
    return AWAY_STATES.has(code) || (code.startsWith("08") && code !== "08P01");
  }
  if (!(error instanceof Error)) return false;
  const { code } = error as NodeJS.ErrnoException;
  return (code !== undefined && NETWORK_CODES.has(code)) || CONNECTION_LOST.has(error.message);
}

/** Whether no connection of the pool became free in time. */
function isExhausted(error: unknown): boolean {
  return error instanceof Error && error.message === POOL_EXHAUSTED;
}

/** SQLSTATEs that a reading statement may end with on a replica and not on the primary. */
const REPLICA_STATES = new Set([
  "40001", // serialization_failure: it was in the way of what is replayed
  "40P01", // deadlock_detected: the same
  READ_ONLY,
  "42501", // insufficient_privilege: the role may be another one there
  "42P01", // undefined_table: not there yet, or no longer
  "42703", // undefined_column: not there yet
]);

/** Whether a reading statement that failed on a replica is worth another try on the primary. */
export function isReplicaFault(error: unknown): boolean {
  if (isAway(error) || isExhausted(error)) return true;
  return error instanceof pg.DatabaseError && REPLICA_STATES.has(error.code ?? "");
}

/** Whether a statement failed because the server takes no writes (25006). */
export function isReadOnly(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === READ_ONLY;
}

/** Whether a statement failed because a key was taken (23505). */
export function isUniqueViolation(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === "23505";
}

/** Whether a transaction failed only because another one was in its way; the same again may succeed. */
export function isConflict(error: unknown): boolean {
  return error instanceof pg.DatabaseError && (error.code === "40001" || error.code === "40P01");
}

/** Whether a statement failed because a lock was not to be had in the time allowed (55P03). */
export function isLockTimeout(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === "55P03";
}

/** Whether a statement named a table that is not there (42P01). */
export function isUndefinedTable(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === "42P01";
}

/** Whether the role may not do what a statement asks for (42501). */
export function isInsufficientPrivilege(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === "42501";
}

/** Whether a statement was stopped on request or by its time limit (57014). */
export function isCancelled(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === "57014";
}
