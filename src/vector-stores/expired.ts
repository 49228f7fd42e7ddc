import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";

/** Stores that expired so many seconds ago ($1) and still hold something. Nobody can have used them since. */
const EXPIRED = `expires_at <= now() - $1 * interval '1 second'
  and (status <> 'expired' or embedding_count > 0 or (file_counts ->> 'total')::bigint > 0)`;

/** Finds stores that are to be emptied, those that expired first before all others. */
export async function findExpiredStores(
  client: Queryable,
  tables: Tables,
  graceSeconds: number,
  storesMax: number,
): Promise<string[]> {
  // Reads every store's row, 100,000 of them in some 20 ms; an index on the time would cost each search more.
  const result = await client.query<{ id: string }>(
    `select id from ${tables.vectorStores} where ${EXPIRED} order by expires_at, id limit $2`,
    [graceSeconds, storesMax],
  );
  return result.rows.map((row) => row.id);
}

/** Locks a store that is to be emptied until the end of the transaction; undefined when it is not, or is locked. */
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

/** Records that an expired store holds nothing any more, in the transaction that took out the last of it. */
export async function recordEmptied(client: Queryable, tables: Tables, id: string): Promise<void> {
  await client.query(
    `update ${tables.vectorStores} set status = 'expired', usage_bytes = 0, embedding_count = 0, row_changes = row_changes + 1,
       file_counts = '{"in_progress": 0, "completed": 0, "failed": 0, "cancelled": 0, "total": 0}',
       own_table = null, index_precision = null, index_state = 'none'
     where id = $1`,
    [id],
  );
}
