import type pg from "pg";
import { vectorStoreNotFound } from "../errors.ts";
import { lockShared, placementLock } from "../postgres/advisory.ts";
import type { Client, Queryable } from "../postgres/database.ts";
import { isUndefinedTable } from "../postgres/errors.ts";
import { placeTables, type Tables } from "../postgres/tables.ts";
import { transaction } from "../postgres/transaction.ts";

/** Where a store's rows are. */
interface Placement {
  own_table: string | null;
}

/**
 * Joins the writers of a store until the end of the transaction, before any row of it is written: while there are
 * any, the store's rows are not switched to another table. Returns the tables as the store sees them; undefined
 * when there is no such store.
 */
export async function openForWriting(
  client: Client,
  tables: Tables,
  storeId: string,
): Promise<Tables | undefined> {
  await lockShared(client, tables, placementLock(storeId));
  // A statement of its own, whose snapshot is taken when the lock is held.
  const store = await findPlacement(client, tables, storeId);
  return store === undefined ? undefined : placeTables(tables, store);
}

/** Runs a transaction that writes rows of a store, in the tables as the store sees them; NOT_FOUND when there is none. */
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
 * Reads rows of a store from the table that holds them, again when they were switched to another one meanwhile, so
 * that what is read is never half of a store. `read` may run several times.
 */
export async function readPlaced<T>(
  client: Queryable,
  tables: Tables,
  store: { id: string } & Placement,
  read: (placed: Tables) => Promise<T>,
): Promise<T> {
  for (let placement: Placement = store; ;) {
    const outcome = await read(placeTables(tables, placement)).then(
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

/** NOT_FOUND where a table was missing because the store was deleted meanwhile, and its table with it. */
async function explainMissing(
  client: Queryable,
  tables: Tables,
  storeId: string,
  error: unknown,
): Promise<unknown> {
  if (!isUndefinedTable(error)) return error;
  return (await findPlacement(client, tables, storeId)) === undefined ? vectorStoreNotFound(storeId) : error;
}
