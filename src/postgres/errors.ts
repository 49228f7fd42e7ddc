import pg from "pg";
import { conflict, deadlineExceeded, invalidArgument, rateLimited, unavailable } from "../errors.ts";
import { FullDiskError } from "./embedded/disk.ts";

/**
 * Suggested delay before a retry: covers a server's restart or a fail-over without delaying users noticeably.
 */
const RETRY_AFTER_MS = 1000;

/** Operating system errors that mean the server is unreachable; ENOENT: the Unix socket does not exist. */
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

/** The only mark of pg-pool's error for an exhausted pool: it has no code (pg-pool/index.js, `connect`). */
const POOL_EXHAUSTED = "timeout exceeded when trying to connect";

/**
 * Messages of node-postgres and pg-pool for a lost connection, which have no code (pg/lib/client.js,
 * pg-pool/index.js).
 */
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
 * Maps an error of Postgres, node-postgres or the network to an error of errors.ts that callers may see.
 * Returns every other error unchanged. Reference: PostgreSQL manual, appendix A, "PostgreSQL Error Codes".
 */
export function toServiceError(error: unknown): unknown {
  if (isNodeAway(error)) return nodeUnreachable(error);
  if (isAdminShutdown(error)) return passing(ENDED, error);
  if (isAway(error)) return passing("The database cannot be reached.", error);
  if (isShardGone(error)) return passing("The store's table is just changing to another node.", error);
  if (isCopyError(error)) return passing("A node of the database's cluster could not write the rows.", error);
  if (error instanceof FullDiskError) return passing(FULL_DISK, error);
  if (error instanceof pg.DatabaseError) return fromSqlState(error);
  return isExhausted(error) ? rateLimited("All database connections are busy.", RETRY_AFTER_MS) : error;
}

/**
 * read_only_sql_transaction: the server was demoted to a replica, or set read-only because its disk is full.
 */
const READ_ONLY = "25006";

const ENDED = "The database has ended the session, as for a shutdown or the failover of a node.";

const FULL_DISK = "The database has no room on its disk at the moment.";

function fromSqlState(error: pg.DatabaseError): unknown {
  switch (error.code) {
    case "57014": // query_canceled, also by statement_timeout
      return deadlineExceeded("The database took longer than allowed.", error);
    case "22021": // character_not_in_repertoire
    case "22P05": // untranslatable_character
    case "22P02": // invalid_text_representation
      return invalidArgument(
        undefined,
        "A text contains a character, or has a form, that the database cannot store.",
      );
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

/** The remedy when a pooler in transaction mode loses a session's prepared statements or settings. */
export const BOUNCER_HINT =
  "A pooler such as PgBouncer in transaction mode is in between: add pgbouncer=true to the query of DATABASE_URL.";

function passing(message: string, cause: unknown): unknown {
  return unavailable("DATABASE_UNAVAILABLE", message, { retryAfterMs: RETRY_AFTER_MS, cause });
}

/** admin_shutdown: `citus_update_node` too ends sessions so, those that stand in the way of a node's new address. */
function isAdminShutdown(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === "57P01";
}

/** The error for a caller whose rows are on a node of a cluster that does not answer. */
export function nodeUnreachable(cause?: unknown): Error {
  return unavailable("DATABASE_UNAVAILABLE", "A node of the database's cluster cannot be reached.", {
    retryAfterMs: RETRY_AFTER_MS,
    cause,
  });
}

/** SQLSTATEs with which a server refuses or terminates connections. */
const AWAY_STATES = new Set([
  "57P01", // admin_shutdown
  "57P02", // crash_shutdown
  "57P03", // cannot_connect_now
  "57P04", // database_dropped
  "53300", // too_many_connections
]);

/**
 * Whether the connection was lost or could not be established. Not when the coordinator of a cluster says so of its
 * connection to a node.
 */
export function isAway(error: unknown): boolean {
  if (error instanceof pg.DatabaseError) return isAwayState(error) && !isNodeAway(error);
  if (!(error instanceof Error)) return false;
  const { code } = error as NodeJS.ErrnoException;
  return (code !== undefined && NETWORK_CODES.has(code)) || CONNECTION_LOST.has(error.message);
}

function isAwayState({ code = "" }: pg.DatabaseError): boolean {
  // Class 08 is connection_exception, but 08P01 (protocol_violation) means that this service sent a
  // malformed message.
  return AWAY_STATES.has(code) || (code.startsWith("08") && code !== "08P01");
}

/** Source files of Citus from which it reports that a node refuses connections, or has ended one. */
const NODE_FILES = new Set(["connection_management.c", "remote_commands.c", "adaptive_executor.c"]);

/** Source files of Citus from which it reports that a transaction could not be ended on a node. */
const COMMIT_FILES = new Set(["remote_transaction.c", "placement_connection.c"]);

/**
 * Whether the coordinator of a Citus cluster has no connection to a node. One that cannot be made is reported with the
 * SQLSTATEs of a server that is away, but from a file of Citus. One that breaks is io_error in a COPY, and else an error
 * without a SQLSTATE, which Citus reports as internal_error from its function ReportResultError, or from those that end a
 * transaction.
 */
function isNodeAway(error: unknown): boolean {
  if (!(error instanceof pg.DatabaseError)) return false;
  const { code, file, routine } = error;
  return (
    (isAwayState(error) && NODE_FILES.has(file ?? "")) ||
    (code === "58030" && file === "multi_copy.c") ||
    (code === "XX000" && (routine === "ReportResultError" || COMMIT_FILES.has(file ?? "")))
  );
}

/** Whether a statement was planned for a shard that a split or a move has replaced before it ran. */
function isShardGone(error: unknown): boolean {
  return (
    error instanceof pg.DatabaseError &&
    error.code === "XX000" &&
    error.routine === "LookupShardRelationFromCatalog"
  );
}

/** The error for a caller that gets no connection, because too many others wait, or after its wait budget. */
export function exhausted(): Error {
  return new Error(POOL_EXHAUSTED);
}

/** Whether the pool was exhausted until the connect timeout. */
export function isExhausted(error: unknown): boolean {
  return error instanceof Error && error.message === POOL_EXHAUSTED;
}

/** SQLSTATEs with which a read may fail on a replica although it would succeed on the primary. */
const REPLICA_STATES = new Set([
  "40001", // serialization_failure: recovery conflict, the read blocked WAL replay
  "40P01", // deadlock_detected: recovery conflict
  READ_ONLY,
  "42501", // insufficient_privilege: the replica's URL may name another role
  "42P01", // undefined_table: not replicated yet, or dropped
  "42703", // undefined_column: not replicated yet
  "22023", // invalid_parameter_value: the role of calls is not replicated yet
]);

/** Whether a read that failed on a replica should be retried on the primary. */
export function isReplicaFault(error: unknown): boolean {
  if (isAway(error) || isNodeAway(error) || isShardGone(error) || isExhausted(error)) return true;
  return error instanceof pg.DatabaseError && REPLICA_STATES.has(error.code ?? "");
}

/** Whether a statement failed because the server is read-only (25006, read_only_sql_transaction). */
export function isReadOnly(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === READ_ONLY;
}

/**
 * Whether a statement violated a unique constraint (23505, unique_violation), or may have: of every error of a COPY into a
 * distributed table of Citus, the coordinator passes on the message and the detail only. A violated constraint has a detail, which
 * names the key; a session that the node ends, and a full disk, have none.
 */
export function isUniqueViolation(error: unknown): boolean {
  if (!(error instanceof pg.DatabaseError)) return false;
  return error.code === "23505" || (isCopyError(error) && error.detail !== undefined);
}

/** Whether a node of a Citus cluster has failed a COPY, for whatever reason: Citus reports all of them from one function. */
function isCopyError(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === "XX000" && error.routine === "ReportCopyError";
}

/**
 * Whether a transaction hit a serialization failure (40001) or a deadlock (40P01): the same transaction may
 * be retried.
 */
export function isConflict(error: unknown): boolean {
  return error instanceof pg.DatabaseError && (error.code === "40001" || error.code === "40P01");
}

/** Whether a statement hit `lock_timeout` (55P03, lock_not_available). */
export function isLockTimeout(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === "55P03";
}

/**
 * Whether the server refused a statement for what it says or what it met, so that another statement may succeed: data
 * exceptions (class 22), violated constraints (23), conflicts (40), exceeded program limits (54), `lock_timeout` and
 * faults of an extension (XX). Not whether the server or the connection fails, for whatever statement.
 */
export function isStatementFault(error: unknown): boolean {
  return (
    error instanceof pg.DatabaseError &&
    /^(?:22|23|40|54|XX)|^55P03$/.test(error.code ?? "") &&
    !isAway(error)
  );
}

/** Whether a statement divided by zero (22012, division_by_zero). */
export function isDivisionByZero(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === "22012";
}

/**
 * Whether a read that failed on one node of a cluster would fail as well through the coordinator: data exceptions (class
 * 22), and a statement that took longer than allowed.
 */
export function isFaultOfRead(error: unknown): boolean {
  return error instanceof pg.DatabaseError && (error.code?.startsWith("22") === true || isCancelled(error));
}

/** data_exception (22000), such as pgvector's error for vectors of different dimensions. */
export function isDataException(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === "22000";
}

/** Whether a statement named a table that does not exist (42P01, undefined_table). */
export function isUndefinedTable(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === "42P01";
}

/** Whether the role lacks a privilege that a statement needs (42501, insufficient_privilege). */
export function isInsufficientPrivilege(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === "42501";
}

/**
 * Whether a statement was cancelled, by `pg_cancel_backend` or by `statement_timeout` (57014,
 * query_canceled).
 */
export function isCancelled(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === "57014";
}
