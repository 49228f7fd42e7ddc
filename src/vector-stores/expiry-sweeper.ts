import { setTimeout as delay } from "node:timers/promises";
import { deleteOldEntries } from "../audit/rows.ts";
import type { Buckets } from "../files/buckets.ts";
import { removeLeftovers } from "../files/leftovers.ts";
import { deleteOldUploads } from "../files/uploads.ts";
import { deleteExpiredFiles } from "../files/service.ts";
import { deleteOldIngests } from "../ingest/ingests.ts";
import { placementLock, tryLock } from "../postgres/advisory.ts";
import type { Client, Database } from "../postgres/database.ts";
import { isLockTimeout } from "../postgres/errors.ts";
import type { Tables } from "../postgres/tables.ts";
import { transaction } from "../postgres/transaction.ts";
import { countRemoval } from "../storage/counts.ts";
import { deleteEmbeddings } from "../storage/embeddings.ts";
import { findExpiredStores, lockExpiredStore, markEmptied } from "./expired.ts";
import { removeContents } from "./removal.ts";

/** Settings of the expiry sweeper. */
export interface ExpiryOptions {
  /** Seconds between two sweeps; 0: the sweeper is off. */
  sweepSeconds: number;
  /** Seconds from a store's expiry to the removal of its contents, at least 60. */
  graceSeconds: number;
  /** Days for which entries of the audit log are kept. */
  auditDays: number;
}

/** The logger of the sweeper, whose events belong to no request. */
export interface ExpiryLog {
  info: (line: object, message: string) => void;
  warn: (line: object, message: string) => void;
}

/**
 * Rows deleted per transaction: about 50 ms, for which the embedded database, having one session, blocks all
 * calls.
 */
const BATCH_ROWS = 5_000;
/** Stores and files fetched per query. */
const STORES_MAX = 1_000;
const FILES_MAX = 100;
/** `lock_timeout` in ms; after it, the store is left to the next sweep. */
const LOCK_WAIT_MS = 2_000;

/**
 * Starts the background sweeper, which removes the contents of expired stores, expired files, old ingests, old entries
 * of the audit log, and what crashed uploads have left behind. `stop` aborts the sweep and resolves when it has ended; the next
 * sweep, in any process, continues the work.
 */
export function startExpirySweeper(
  database: Database,
  buckets: Buckets,
  options: ExpiryOptions,
  log: ExpiryLog,
): { stop: () => Promise<void> } {
  const stopped = new AbortController();
  const { signal } = stopped;
  const run = async () => {
    while (options.sweepSeconds > 0 && !signal.aborted) {
      await delay(options.sweepSeconds * 1000, undefined, { signal, ref: false }).catch(() => {});
      await sweepExpired(database, buckets, options, log, signal);
    }
  };
  const ended = run();
  return {
    stop: async () => {
      stopped.abort();
      await ended;
    },
  };
}

/** Runs one sweep. A failure of one kind of removal is logged and does not stop the others. */
export async function sweepExpired(
  database: Database,
  buckets: Buckets,
  { graceSeconds, auditDays }: Omit<ExpiryOptions, "sweepSeconds">,
  log: ExpiryLog,
  signal: AbortSignal,
): Promise<void> {
  const { tables } = database;
  const removals = {
    stores: () => emptyStores(database, graceSeconds, log, signal),
    ingests: () => inTurn(database, (client) => deleteOldIngests(client, tables, BATCH_ROWS), signal),
    files: () => deleteExpiredFiles(database, buckets, FILES_MAX, signal),
    uploads: () => inTurn(database, (client) => deleteOldUploads(client, tables, BATCH_ROWS), signal),
    "audit log": () => deleteAuditLog(database, auditDays, signal),
    leftovers: () => repeat((filesMax) => removeLeftovers(database, buckets, filesMax, signal), signal),
  };
  for (const [removed, remove] of Object.entries(removals)) {
    if (signal.aborted) return;
    await remove().catch((error: unknown) => {
      if (!signal.aborted)
        log.warn({ err: error, removed }, "Removing expired data failed; the next sweep retries");
    });
  }
}

/** Deletes old entries of the audit log, in transactions of one batch each. */
async function deleteAuditLog(database: Database, days: number, signal: AbortSignal): Promise<void> {
  let deleted: number | undefined = BATCH_ROWS;
  while (deleted === BATCH_ROWS && !signal.aborted) {
    const { tables } = database;
    deleted = await inTurn<number>(
      database,
      (client) => deleteOldEntries(client, tables, days, BATCH_ROWS),
      signal,
    );
  }
}

/** Calls `remove` until it returns less than a full batch. */
async function repeat(remove: (filesMax: number) => Promise<number>, signal: AbortSignal): Promise<void> {
  let removed = FILES_MAX;
  while (removed === FILES_MAX && !signal.aborted) removed = await remove(FILES_MAX);
}

/**
 * Removes the contents of expired stores, in short transactions that each delete rows of one store. An
 * advisory lock lets one process at a time do so; returns early when another process holds the lock. A
 * failure for one store does not stop the others; the first error is thrown at the end.
 */
async function emptyStores(
  database: Database,
  graceSeconds: number,
  log: ExpiryLog,
  signal: AbortSignal,
): Promise<void> {
  const { pool, tables } = database;
  const errors: unknown[] = [];
  for (const id of await findExpiredStores(pool, tables, graceSeconds, STORES_MAX)) {
    try {
      const outcome = await emptyStore(database, id, graceSeconds, signal);
      if (outcome === "taken") return;
      if (outcome === "done") log.info({ vectorStoreId: id }, "Removed the contents of an expired store");
    } catch (error) {
      signal.throwIfAborted();
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
}

async function emptyStore(
  database: Database,
  id: string,
  graceSeconds: number,
  signal: AbortSignal,
): Promise<StepOutcome> {
  let outcome: StepOutcome = "begun";
  for (const step of [deleteSome, deleteRest]) {
    do {
      outcome = await tryExpired(
        database,
        id,
        (client) => step(client, database.tables, id, graceSeconds),
        signal,
      );
    } while (outcome === "begun");
    if (outcome !== "done") break;
  }
  return outcome;
}

/**
 * The result of a step: `begun` = rows are left, `used` = the store is in use, `taken` = another process
 * sweeps.
 */
type StepOutcome = "begun" | "done" | "used" | "taken";

/**
 * Runs a step of emptying a store, unless the store is in use. A writer that began before the expiry holds
 * the placement lock until its commit, which may renew the expiry; a writer that begins later is refused.
 */
async function tryExpired(
  database: Database,
  id: string,
  step: (client: Client) => Promise<StepOutcome>,
  signal: AbortSignal,
): Promise<StepOutcome> {
  const attempt = async (client: Client): Promise<StepOutcome> => {
    await client.query(`set local lock_timeout = ${LOCK_WAIT_MS}`);
    return (await tryLock(client, database.tables, placementLock(id))) ? step(client) : "used";
  };
  try {
    return (await inTurn(database, attempt, signal)) ?? "taken";
  } catch (error) {
    if (error instanceof InUse || isLockTimeout(error)) return "used";
    throw error;
  }
}

/** Deletes a batch of a store's rows in the shared table, and subtracts them from the store's counts. */
async function deleteSome(
  client: Client,
  tables: Tables,
  id: string,
  graceSeconds: number,
): Promise<StepOutcome> {
  const store = await lockExpiredStore(client, tables, id, graceSeconds);
  if (store === undefined) return "used";
  const some = `${tables.id} in (select ${tables.id} from only ${tables.embeddings} where ${tables.vectorStoreId} = $1 limit $2)`;
  const removed = await deleteEmbeddings(client, tables, id, some, [BATCH_ROWS]);
  // If the store has its own table, rows in the shared table are leftovers of the move and not part of the
  // counts.
  if (removed.rows > 0 && store.own_table === null) await countRemoval(client, tables, id, removed);
  return removed.rows === BATCH_ROWS ? "begun" : "done";
}

/** Deletes everything else in a store: its attachments, its own table and its ingests. */
async function deleteRest(
  client: Client,
  tables: Tables,
  id: string,
  graceSeconds: number,
): Promise<StepOutcome> {
  const claim = async () => (await lockExpiredStore(client, tables, id, graceSeconds)) !== undefined;
  if (!(await removeContents(client, tables, id, claim))) throw new InUse();
  await markEmptied(client, tables, id);
  return "done";
}

/** Thrown inside a step's transaction to roll back when the store turns out to be in use. */
class InUse extends Error {}

/** Runs a transaction under the sweep's advisory lock; undefined when another process holds the lock. */
async function inTurn<T>(
  { pool, tables }: Database,
  work: (client: Client) => Promise<T>,
  signal: AbortSignal,
): Promise<T | undefined> {
  return transaction(
    pool,
    async (client) => ((await tryLock(client, tables, "pgquiver expiry")) ? work(client) : undefined),
    signal,
  );
}
