import { messageOf } from "../errors.ts";
import type { Database } from "../postgres/database.ts";
import { findRemedy } from "../postgres/remedy.ts";
import { readTransaction } from "../postgres/transaction.ts";
import { checkBlockers } from "./blockers.ts";
import { checkCitus } from "./citus.ts";
import { checkConnections, checkSessions } from "./connections.ts";
import { checkDimensions } from "./dimensions.ts";
import { checkPgvector } from "./extension.ts";
import type { Check, DiagnosticSettings, Finding, Severity } from "./finding.ts";
import { checkDeadRows, checkIndexSizes, checkInvalidIndexes } from "./indexes.ts";
import { checkBuilds, checkCheckpoints, checkPlanner } from "./performance.ts";
import { checkRecall } from "./recall.ts";
import { checkReplicas } from "./replicas.ts";
import { checkMigrations, checkPrivileges } from "./schema.ts";
import {
  checkClock,
  checkDurability,
  checkEncoding,
  checkServerVersion,
  checkTransactionIds,
  checkWritable,
} from "./server.ts";
import { checkRowSecurity } from "./row-security.ts";
import { checkCounts, checkFiles, checkOwnTables, checkPromotions } from "./stores.ts";

/** A finding with the name of its check. */
export interface Diagnosis extends Finding {
  check: string;
}

interface Registered {
  run: Check;
  /** The check is about settings of a server: skipped on the embedded database. */
  onServer?: true;
  /** The check reads the service's tables: skipped while migrations are pending. */
  onTables?: true;
}

const CHECKS: Record<string, Registered> = {
  server_version: { run: checkServerVersion },
  writable: { run: checkWritable },
  encoding: { run: checkEncoding },
  pgvector: { run: checkPgvector },
  migrations: { run: checkMigrations },
  privileges: { run: checkPrivileges },
  durability: { run: checkDurability, onServer: true },
  connections: { run: checkConnections, onServer: true },
  sessions: { run: checkSessions, onServer: true },
  planner: { run: checkPlanner, onServer: true },
  checkpoints: { run: checkCheckpoints, onServer: true },
  clock: { run: checkClock },
  transaction_ids: { run: checkTransactionIds },
  replicas: { run: checkReplicas },
  invalid_indexes: { run: checkInvalidIndexes },
  index_sizes: { run: checkIndexSizes },
  dead_rows: { run: checkDeadRows },
  vacuum_blockers: { run: checkBlockers },
  builds: { run: checkBuilds, onServer: true, onTables: true },
  promotions: { run: checkPromotions, onTables: true },
  recall: { run: checkRecall, onTables: true },
  own_tables: { run: checkOwnTables, onTables: true },
  counts: { run: checkCounts, onTables: true },
  dimensions: { run: checkDimensions, onTables: true },
  citus: { run: checkCitus, onServer: true, onTables: true },
  row_security: { run: checkRowSecurity, onTables: true },
  files: { run: checkFiles, onTables: true },
};

/**
 * The names of all checks, in the order in which they run. A test holds the table in docs/doctor.md to them.
 */
export const CHECK_NAMES: readonly string[] = ["connection", ...Object.keys(CHECKS)];

/** Statement and lock timeout of a check, so that diagnostics never hang on a busy database. */
const STATEMENT_TIMEOUT_MS = 5_000;
const LOCK_TIMEOUT_MS = 1_000;

/** Time for all checks together, in milliseconds: of a caller of the service, who waits, and of the doctor. */
export const DIAGNOSE_MS = 15_000;
const DOCTOR_MS = 120_000;

const ORDER: readonly Severity[] = ["error", "warning", "notice", "ok"];

/**
 * Runs every check in read-only transactions, whatever state the database is in. Returns at least one finding
 * per check, the most severe first. A check that throws, or that does not end within `budgetMs` from the beginning,
 * becomes a warning, an unreachable database an error. Throws only when `signal` aborts.
 */
export async function diagnose(
  database: Database,
  settings: DiagnosticSettings,
  signal: AbortSignal,
  budgetMs = DOCTOR_MS,
): Promise<Diagnosis[]> {
  const budget = AbortSignal.timeout(budgetMs);
  const connection = await checkConnection(database, signal);
  if (connection.severity === "error") return [connection];
  const found = [connection];
  for (const [check, { run, onServer, onTables }] of Object.entries(CHECKS)) {
    if (onServer && database.kind === "embedded") continue;
    if (onTables && found.some((one) => one.check === "migrations" && one.severity === "error")) continue;
    try {
      const findings = await readTransaction(
        database.pool,
        async (client) => {
          // REPEATABLE READ: one snapshot per check, so that counters and rows are compared as of the same
          // moment.
          await client.query("set transaction isolation level repeatable read, read only");
          await client.query(`set local statement_timeout = ${STATEMENT_TIMEOUT_MS}`);
          await client.query(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`);
          return run({ client, database, settings });
        },
        AbortSignal.any([signal, budget]),
      );
      found.push(...findings.map((finding) => ({ check, ...finding })));
    } catch (error) {
      signal.throwIfAborted();
      const reason = budget.aborted
        ? `all checks together took longer than ${budgetMs / 1000} seconds`
        : messageOf(error);
      found.push({ check, severity: "warning", message: `The check failed: ${reason}.` });
    }
  }
  return found.toSorted((a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity));
}

async function checkConnection(database: Database, signal: AbortSignal): Promise<Diagnosis> {
  const check = "connection";
  try {
    await readTransaction(database.pool, (client) => client.query("select 1"), signal);
    return { check, severity: "ok", message: `Connected to ${database.description}.` };
  } catch (error) {
    signal.throwIfAborted();
    const message = `Cannot use ${database.description}: ${messageOf(error)}.`;
    const remedy = findRemedy(error);
    return { check, severity: "error", message, ...(remedy === undefined ? {} : { remedy }) };
  }
}
