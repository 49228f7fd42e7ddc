import type { Queryable } from "../postgres/pool.ts";
import type { Tables } from "../postgres/tables.ts";
import type { VectorStoreRow } from "./stores.ts";

const ACTIVE_NOW = `last_active_at = now(), expires_at = now() + (expires_after ->> 'days')::int * interval '1 day'`;

const COUNTS = `
  usage_bytes = usage_bytes + $2::bigint,
  file_counts = file_counts || jsonb_build_object(
    'completed', (file_counts ->> 'completed')::bigint + $3::bigint,
    'total', (file_counts ->> 'total')::bigint + $3::bigint)`;

/**
 * Moves `last_active_at` and with it the expiry. The API shows seconds, so a store that was
 * active within the same second is not written again, however often it is searched. Nor is one that
 * somebody else is writing to at this moment: a search must not wait for a long ingest.
 */
export async function touchStore(client: Queryable, tables: Tables, store: VectorStoreRow): Promise<void> {
  const second = (date: Date) => Math.floor(date.getTime() / 1000);
  if (store.last_active_at !== null && second(store.last_active_at) === second(new Date())) return;
  await client.query(
    `update ${tables.vectorStores} set ${ACTIVE_NOW} where id = (
       select id from ${tables.vectorStores}
       where id = $1 and coalesce(last_active_at < date_trunc('second', now()), true) and coalesce(expires_at > now(), true)
       for no key update skip locked)`,
    [store.id],
  );
}

/** What rows added to a store mean for its own row. */
export interface Addition {
  rows: number;
  /** UTF-8 bytes of the rows' text. */
  bytes: number;
  /** Length of the rows' vectors. */
  dimensions: number;
  /** The model the service embedded with; null when every vector came from the caller. */
  embeddingModel: string | null;
}

/**
 * Counts added rows in the store's row, in the transaction of the rows themselves and last in it,
 * since it locks the row until the commit. False when the store is gone, has expired, or was
 * meanwhile fixed to other dimensions or another model: then the transaction must be rolled back.
 */
export async function recordAddition(
  client: Queryable,
  tables: Tables,
  id: string,
  added: Addition,
): Promise<boolean> {
  const result = await client.query({
    name: "record_addition",
    text: `update ${tables.vectorStores} set ${COUNTS}, ${ACTIVE_NOW},
        dimensions = coalesce(dimensions, $4::int), embedding_model = coalesce(embedding_model, $5::text)
      where id = $1 and coalesce(expires_at > now(), true)
        and coalesce(dimensions = $4::int, true) and coalesce(embedding_model = $5::text, true)`,
    values: [id, added.bytes, added.rows, added.dimensions, added.embeddingModel],
  });
  return result.rowCount === 1;
}

/**
 * Locks a store's row until the end of the transaction, before rows are taken out of it: the order
 * in which deleting the store locks, so that the two never wait for each other. False when it is gone.
 */
export async function lockStore(client: Queryable, tables: Tables, id: string): Promise<boolean> {
  const result = await client.query(`select 1 from ${tables.vectorStores} where id = $1 for no key update`, [
    id,
  ]);
  return result.rowCount === 1;
}

/** Counts rows taken out of a store, in the transaction of the rows themselves. */
export async function recordRemoval(
  client: Queryable,
  tables: Tables,
  id: string,
  removed: { rows: number; bytes: number },
): Promise<void> {
  await client.query(`update ${tables.vectorStores} set ${COUNTS} where id = $1`, [
    id,
    -removed.bytes,
    -removed.rows,
  ]);
}
