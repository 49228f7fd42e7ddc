import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";

/**
 * SQL condition: the store expired at least $1 seconds ago and is not emptied yet. Expired stores refuse all
 * use.
 */
const EXPIRED = `expires_at <= now() - $1 * interval '1 second'
  and (status <> 'expired' or embedding_count > 0 or (file_counts ->> 'total')::bigint > 0)`;

/** Returns the ids of at most `storesMax` stores to empty, in order of expiry. */
export async function findExpiredStores(
  client: Queryable,
  tables: Tables,
  graceSeconds: number,
  storesMax: number,
): Promise<string[]> {
  // Sequential scan: 100,000 stores take 20 ms. An index on expires_at would cost more: searches update the
  // column of stores that expire, and these updates could then not be HOT.
  const result = await client.query<{ id: string }>(
    `select id from ${tables.vectorStores} where ${EXPIRED} order by expires_at, id limit $2`,
    [graceSeconds, storesMax],
  );
  return result.rows.map((row) => row.id);
}

/**
 * Locks the row of a store to empty, until the end of the transaction. Undefined when the store is not to be
 * emptied, or when its row is locked (SKIP LOCKED).
 */
export async function lockExpiredStore(
  client: Queryable,
  tables: Tables,
  id: string,
  graceSeconds: number,
): Promise<{ own_table: string | null } | undefined> {
  const result = await client.query<{ own_table: string | null }>(
    `select own_table from ${tables.vectorStores} where id = $2 and ${EXPIRED} for no key update skip locked`,
    [graceSeconds, id],
  );
  return result.rows[0];
}

/** Marks an expired store as emptied, in the transaction that deletes the last of its contents. */
export async function markEmptied(client: Queryable, tables: Tables, id: string): Promise<void> {
  await client.query(
    `update ${tables.vectorStores} set status = 'expired', usage_bytes = 0, embedding_count = 0, row_changes = row_changes + 1,
       file_counts = '{"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0}',
       own_table = null, index_precision = null, ef_search = null, filtered_ef_search = null, index_state = 'none'
     where id = $1`,
    [id],
  );
}
