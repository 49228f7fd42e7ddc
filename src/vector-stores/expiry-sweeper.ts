import { setTimeout as delay } from "node:timers/promises";
import type { Buckets } from "../files/buckets.ts";
import { removeLeftovers } from "../files/leftovers.ts";
import { deleteExpiredFiles } from "../files/service.ts";
import { deleteOldIngests } from "../ingest/ingests.ts";
import { placementLock, tryLock } from "../postgres/advisory.ts";
import type { Client, Database } from "../postgres/database.ts";
import { isLockTimeout } from "../postgres/errors.ts";
import type { Tables } from "../postgres/tables.ts";
import { transaction } from "../postgres/transaction.ts";
import { recordRemoval } from "../storage/counts.ts";
import { deleteEmbeddings } from "../storage/embeddings.ts";
import { findExpiredStores, lockExpiredStore, recordEmptied } from "./expired.ts";
import { removeContents } from "./removal.ts";

/** How what has expired is removed. */
export interface ExpiryOptions {
  /** Seconds between two looks; 0: nothing is removed. */
  sweepSeconds: number;
  /** Seconds for which the contents of an expired store are kept, at least 60. */
  graceSeconds: number;
}

/** Gets what was removed, and what went wrong. */
export interface ExpiryLog {
  info: (line: object, message: string) => void;
  warn: (line: object, message: string) => void;
}

/** Rows deleted in one transaction: some 50 ms, and as much for whoever waits on the embedded database. */
const BATCH_ROWS = 5_000;
/** Stores looked for at a time, and files. */
const STORES_MAX = 1_000;
const FILES_MAX = 100;
/** How long a transaction waits for a lock before its store is put off to the next look. */
const LOCK_WAIT_MS = 2_000;

/**
 * Removes what has expired or was left behind, in the background. Returns how to stop it; what was begun goes on at the
 * next look, in whichever process.
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
      await sweepExpired(database, buckets, options.graceSeconds, log, signal);
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

/** Looks once, and removes all it finds. What fails is logged, and does not keep it from the rest. */
export async function sweepExpired(
  database: Database,
  buckets: Buckets,
  graceSeconds: number,
  log: ExpiryLog,
  signal: AbortSignal,
): Promise<void> {
  const { tables } = database;
  const removals = {
    stores: () => emptyStores(database, graceSeconds, log, signal),
    ingests: () => inTurn(database, (client) => deleteOldIngests(client, tables, BATCH_ROWS), signal),
    files: () => deleteExpiredFiles(database, buckets, FILES_MAX, signal),
    leftovers: () => repeat((filesMax) => removeLeftovers(database, buckets, filesMax, signal), signal),
  };
  for (const [removed, remove] of Object.entries(removals)) {
    if (signal.aborted) return;
    await remove().catch((error: unknown) => {
      if (!signal.aborted)
        log.warn({ err: error, removed }, "Removing what has expired failed; it is tried again");
    });
  }
}

/** Removes some at a time until there are no more. */
async function repeat(remove: (filesMax: number) => Promise<number>, signal: AbortSignal): Promise<void> {
  let removed = FILES_MAX;
  while (removed === FILES_MAX && !signal.aborted) removed = await remove(FILES_MAX);
}

/**
 * Removes the contents of expired stores. Every transaction is short, takes one store's rows, and holds the lock that
 * lets one process at a time do this; ends when another is at it. What fails keeps no other store from its turn; the
 * first error is thrown in the end.
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
): Promise<Outcome> {
  let outcome: Outcome = "begun";
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

/** What became of a step: there is more of it, it is done, the store is in use, or another process sweeps. */
type Outcome = "begun" | "done" | "used" | "taken";

/**
 * Takes a step of emptying a store, unless it is written to, or active again by the time it is locked: a writer that
 * began before the expiry holds the placement's lock until its commit, and one that begins after it is refused.
 */
async function tryExpired(
  database: Database,
  id: string,
  step: (client: Client) => Promise<Outcome>,
  signal: AbortSignal,
): Promise<Outcome> {
  const attempt = async (client: Client): Promise<Outcome> => {
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

/** Deletes some of a store's rows in the shared table, with their counts. */
async function deleteSome(
  client: Client,
  tables: Tables,
  id: string,
  graceSeconds: number,
): Promise<Outcome> {
  const store = await lockExpiredStore(client, tables, id, graceSeconds);
  if (store === undefined) return "used";
  const some = `${tables.id} in (select ${tables.id} from only ${tables.embeddings} where ${tables.vectorStoreId} = $1 limit $2)`;
  const removed = await deleteEmbeddings(client, tables, id, some, [BATCH_ROWS]);
  // Beside the store's own table they are remains of its move, and not counted.
  if (removed.rows > 0 && store.own_table === null) await recordRemoval(client, tables, id, removed);
  return removed.rows === BATCH_ROWS ? "begun" : "done";
}

/** Deletes all else a store holds: its files, its own table, its ingests. */
async function deleteRest(
  client: Client,
  tables: Tables,
  id: string,
  graceSeconds: number,
): Promise<Outcome> {
  const claim = async () => (await lockExpiredStore(client, tables, id, graceSeconds)) !== undefined;
  if (!(await removeContents(client, tables, id, claim))) throw new InUse();
  await recordEmptied(client, tables, id);
  return "done";
}

/** Rolls back what was done before the store was seen to be in use. */
class InUse extends Error {}

/** Runs a transaction while no other process is sweeping; undefined when one is. */
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
