import type pg from "pg";
import { vectorStoreNotFound } from "../errors.ts";
import { lockShared, placementLock } from "../postgres/advisory.ts";
import type { Client, Queryable } from "../postgres/database.ts";
import { isUndefinedTable } from "../postgres/errors.ts";
import { placeTables, type Tables } from "../postgres/tables.ts";
import { transaction, withClient } from "../postgres/transaction.ts";

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
 * `openForWriting`. Throws NOT_FOUND when the store does not exist or is deleted meanwhile.
 */
export async function writeStore<T>(
  pool: pg.Pool,
  tables: Tables,
  storeId: string,
  work: (client: Client, placed: Tables) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  const write = async (client: Client) => {
    const placed = await openForWriting(client, tables, storeId);
    if (placed === undefined) throw vectorStoreNotFound(storeId);
    return work(client, placed);
  };
  try {
    return await transaction(pool, write, signal);
  } catch (error) {
    throw await explainMissing(pool, tables, storeId, error);
  }
}

/**
 * Reads rows of a store from the table that holds them. Optimistic concurrency, no lock: when the store was
 * switched to another table during the read, the read is repeated there, so a result is never half of a
 * store. `read` must be repeatable, and must use the connection it is given: were the rows held while a second
 * connection is waited for, the memory of hundreds of waiting calls would add up. Throws NOT_FOUND when the store
 * was deleted and its table dropped.
 */
export async function readPlaced<T>(
  pool: pg.Pool,
  tables: Tables,
  store: { id: string } & Placement,
  read: (client: Client, placed: Tables) => Promise<T>,
): Promise<T> {
  return withClient(pool, undefined, async (client) => {
    for (let placement: Placement = store; ;) {
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
