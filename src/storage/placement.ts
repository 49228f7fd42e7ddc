import type pg from "pg";
import { vectorStoreNotFound } from "../errors.ts";
import { withNodes, type NodePool } from "../postgres/citus/node-watch.ts";
import { lockShared, lockSharedStatement, placementLock } from "../postgres/advisory.ts";
import type { Client, Queryable } from "../postgres/database.ts";
import { isUndefinedTable } from "../postgres/errors.ts";
import type { Statement } from "../postgres/protocol/one-trip.ts";
import { placeTables, type Tables } from "../postgres/tables.ts";
import { isStorable } from "../postgres/text.ts";
import { framedTransaction, transactionInOneTrip, withClient, type Framed } from "../postgres/transaction.ts";
import { findStoreStatement, type VectorStoreRow } from "./stores.ts";

/** The table that holds a store's rows: its own table, or the shared one when `own_table` is null. */
interface Placement {
  own_table: string | null;
}

/**
 * Takes the store's placement lock in shared mode until the transaction ends; call it before writing rows of
 * the store. While a writer holds the lock, the index worker cannot switch the store to another table, where
 * the written rows would be missing. Returns the tables, with `embeddings` being the one that holds the
 * store's rows; undefined when the store does not exist.
 */
export async function openForWriting(
  client: Client,
  tables: Tables,
  storeId: string,
): Promise<Tables | undefined> {
  await lockShared(client, tables, placementLock(storeId));
  // A separate statement, because its snapshot must be taken after the lock is granted.
  const store = await findPlacement(client, tables, storeId);
  return store === undefined ? undefined : placeTables(tables, store);
}

/**
 * Runs a transaction that writes rows of a store, under the store's placement lock. `work` gets the tables of
 * `openForWriting`, and the store's row. Throws NOT_FOUND when the store does not exist or is deleted meanwhile.
 */
export async function writeStore<T>(
  pool: pg.Pool & NodePool,
  tables: Tables,
  storeId: string,
  work: (client: Client, placed: Tables, store: OpenedStore) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const write = async (client: Client, placed: Tables, store: OpenedStore) => ({
    result: await work(client, placed, store),
  });
  return writeStoreFramed(pool, tables, storeId, write, { signal });
}

/** A store's row, read by a transaction that writes its rows. */
export interface OpenedStore extends VectorStoreRow {
  /** OID of the type vector, for arrays of vectors. */
  vector_oid: number;
}

/** How a transaction that writes rows of a store is opened. */
interface FrameOptions {
  /** `lock_timeout` of the transaction; default: the session's. */
  lockTimeoutMs?: number;
  /** Whether to lock the store's row at once, as `lockStore` does. */
  lockRow?: boolean;
  signal?: AbortSignal | undefined;
}

/**
 * As `writeStore`; `work` may return a statement to be sent with COMMIT. BEGIN, the lock
 * and the store's row take one round trip.
 */
export async function writeStoreFramed<T>(
  pool: pg.Pool & NodePool,
  tables: Tables,
  storeId: string,
  work: (client: Client, placed: Tables, store: OpenedStore) => Promise<Framed<T>>,
  { lockTimeoutMs, lockRow = false, signal }: FrameOptions,
): Promise<T> {
  if (!isStorable(storeId)) throw vectorStoreNotFound(storeId);
  const opening = [
    ...(lockTimeoutMs === undefined ? [] : [`set local lock_timeout = ${lockTimeoutMs}`]),
    lockSharedStatement(tables, placementLock(storeId)),
    `${findStoreStatement(tables, storeId, "'vector'::regtype::oid as vector_oid")} ${lockRow ? "for no key update" : ""}`,
  ];
  using task = pool.nodes?.begin();
  const write = async (client: Client, opened: pg.QueryResult) => {
    const [store] = opened.rows as OpenedStore[];
    if (store === undefined) throw vectorStoreNotFound(storeId);
    await task?.uses(store.own_table);
    return work(client, placeTables(tables, store), store);
  };
  try {
    return await framedTransaction(pool, opening, write, withNodes(signal, task));
  } catch (error) {
    throw await explainMissing(pool, tables, storeId, error);
  }
}

/** A store, and the table that it had at some time. */
export interface KnownStore extends Placement {
  id: string;
}

/**
 * Writes rows of a store as `writeStore` does, in one round trip, where the store's table is known from before. `compose`
 * gets the tables, and returns the statements. Fails with division_by_zero when the store has another table or is gone.
 */
export async function writeKnownStore(
  pool: pg.Pool & NodePool,
  tables: Tables,
  store: KnownStore,
  compose: (placed: Tables) => readonly Statement[],
  { lockTimeoutMs, lockRow = false, signal }: FrameOptions,
): Promise<void> {
  const same = `select from ${tables.vectorStores} where id = $1 and own_table is not distinct from $2::text`;
  const opening: Statement[] = [
    ...(lockTimeoutMs === undefined
      ? []
      : [{ text: "select set_config('lock_timeout', $1, true)", values: [String(lockTimeoutMs)] }]),
    { text: lockSharedStatement(tables, placementLock(store.id)), values: [] },
    // A separate statement, because its snapshot must be taken after the lock is granted.
    {
      text: `select 1 / count(*) from (${same} ${lockRow ? "for no key update" : ""}) as same`,
      values: [store.id, store.own_table],
    },
  ];
  const prepare = () => {
    const statements = compose(placeTables(tables, store));
    return statements.length === 0 ? [] : [...opening, ...statements];
  };
  using task = pool.nodes?.begin();
  await task?.uses(store.own_table);
  await transactionInOneTrip(pool, prepare, withNodes(signal, task));
}

/**
 * Reads rows of a store from the table that holds them. Optimistic concurrency, no lock: when the store was
 * switched to another table during the read, the read is repeated there, so a result is never half of a
 * store. `read` must be repeatable, and must use the connection it is given: were the rows held while a second
 * connection is waited for, the memory of hundreds of waiting calls would add up. Throws NOT_FOUND when the store
 * was deleted and its table dropped. With a signal: as `cancellable`.
 */
export async function readPlaced<T>(
  pool: pg.Pool & NodePool,
  tables: Tables,
  store: { id: string } & Placement,
  read: (client: Client, placed: Tables) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  using task = pool.nodes?.begin();
  return await withClient(pool, withNodes(signal, task), async (client) => {
    for (let placement: Placement = store; ;) {
      await task?.uses(placement.own_table);
      const outcome = await read(client, placeTables(tables, placement)).then(
        (found) => ({ found }),
        (error: unknown) => {
          if (isUndefinedTable(error)) return { error };
          throw error;
        },
      );
      const current = await findPlacement(client, tables, store.id);
      if (current === undefined || current.own_table === placement.own_table) {
        if ("found" in outcome) return outcome.found;
        throw current === undefined ? vectorStoreNotFound(store.id) : outcome.error;
      }
      placement = current;
    }
  });
}

async function findPlacement(
  client: Queryable,
  tables: Tables,
  storeId: string,
): Promise<Placement | undefined> {
  const result = await client.query<Placement>({
    name: "find_placement",
    text: `select own_table from ${tables.vectorStores} where id = $1`,
    values: [storeId],
  });
  return result.rows[0];
}

/**
 * Turns undefined_table into NOT_FOUND when the store, and its own table with it, was deleted during the
 * statement.
 */
async function explainMissing(
  client: Queryable,
  tables: Tables,
  storeId: string,
  error: unknown,
): Promise<unknown> {
  if (!isUndefinedTable(error)) return error;
  return (await findPlacement(client, tables, storeId)) === undefined ? vectorStoreNotFound(storeId) : error;
}
