import pg from "pg";
import { messageOf } from "../errors.ts";
import type { Database } from "../postgres/database.ts";
import { hintFor } from "../postgres/errors.ts";
import { transaction } from "../postgres/transaction.ts";
import { checkConnections, checkSessions } from "./connections.ts";
import { checkPgvector } from "./extension.ts";
import type { Check, DiagnosticSettings, Finding, Severity } from "./finding.ts";
import { checkDeadRows, checkIndexSizes, checkInvalidIndexes } from "./indexes.ts";
import { checkBuilds, checkCheckpoints, checkPlanner } from "./performance.ts";
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
import { checkCounts, checkFiles, checkOwnTables, checkPromotions } from "./stores.ts";

/** A finding with the name of its check. */
export interface Diagnosis extends Finding {
  check: string;
}

interface Registered {
  run: Check;
  /** Whether it is about the settings of a server, which the embedded database does not have. */
  onServer?: true;
  /** Whether it reads the tables, which must be those of this version. */
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
  builds: { run: checkBuilds, onServer: true, onTables: true },
  promotions: { run: checkPromotions, onTables: true },
  own_tables: { run: checkOwnTables, onTables: true },
  counts: { run: checkCounts, onTables: true },
  files: { run: checkFiles, onTables: true },
};

/** The names of all checks, in the order in which they run. docs/doctor.md is held to them by a test. */
export const CHECK_NAMES: readonly string[] = ["connection", ...Object.keys(CHECKS)];

/** How long one statement of a check may take, and wait for a lock. */
const STATEMENT_TIMEOUT_MS = 5_000;
const LOCK_TIMEOUT_MS = 1_000;

const ORDER: readonly Severity[] = ["error", "warning", "notice", "ok"];

/**
 * Looks a database over, whatever state it is in, without changing anything: one finding a check at least, the worst
 * first. A check that fails is a finding too, and so is a database that cannot be reached. Throws only when `signal`
 * aborts.
 */
export async function diagnose(
  database: Database,
  settings: DiagnosticSettings,
  signal: AbortSignal,
): Promise<Diagnosis[]> {
  const connection = await checkConnection(database, signal);
  if (connection.severity === "error") return [connection];
  const found = [connection];
  for (const [check, { run, onServer, onTables }] of Object.entries(CHECKS)) {
    if (onServer && database.kind === "embedded") continue;
    if (onTables && found.some((one) => one.check === "migrations" && one.severity !== "ok")) continue;
    try {
      const findings = await transaction(
        database.pool,
        async (client) => {
          // One snapshot, so that numbers which are compared are of the same moment.
          await client.query("set transaction isolation level repeatable read, read only");
          await client.query(`set local statement_timeout = ${STATEMENT_TIMEOUT_MS}`);
          await client.query(`set local lock_timeout = ${LOCK_TIMEOUT_MS}`);
          return run({ client, database, settings });
        },
        signal,
      );
      found.push(...findings.map((finding) => ({ check, ...finding })));
    } catch (error) {
      signal.throwIfAborted();
      found.push({ check, severity: "warning", message: `This could not be checked: ${messageOf(error)}.` });
    }
  }
  return found.toSorted((a, b) => ORDER.indexOf(a.severity) - ORDER.indexOf(b.severity));
}

async function checkConnection(database: Database, signal: AbortSignal): Promise<Diagnosis> {
  const check = "connection";
  try {
    await transaction(database.pool, (client) => client.query("select 1"), signal);
    return { check, severity: "ok", message: `Connected to ${database.description}.` };
  } catch (error) {
    signal.throwIfAborted();
    const code = error instanceof pg.DatabaseError ? error.code : undefined;
    const message = `Cannot use ${database.description}: ${messageOf(error)}.`;
    return { check, severity: "error", message, remedy: hintFor(error) ?? REMEDIES[code ?? ""] ?? REMEDY };
  }
}

const REMEDY =
  "Check that the server runs, that its address in DATABASE_URL is right, and that no firewall is in between.";
/** By SQLSTATE, when there is a server and it refuses. */
const REMEDIES: Record<string, string> = {
  "28P01": "Set the right password in DATABASE_URL.",
  "28000": "Allow the role, the database and this machine's address in the server's pg_hba.conf.",
  "3D000": "Make the database: create database …; or name another in DATABASE_URL.",
  "53300": "Raise max_connections, or lower DATABASE_POOL_MAX of what uses the server.",
};
