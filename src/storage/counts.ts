import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import type { Removed } from "./embeddings.ts";
import type { FileCounts } from "./stores.ts";

const ACTIVE_NOW = `last_active_at = now(), expires_at = now() + (expires_after ->> 'days')::int * interval '1 day'`;

/** By how much each count of files changes; those not named stay, and the total follows. */
export type FileChange = Partial<Record<Exclude<keyof FileCounts, "total">, number>>;

const COUNTS = `
  usage_bytes = usage_bytes + $2::bigint,
  embedding_count = embedding_count + $3::bigint,
  row_changes = row_changes + 1,
  file_counts = jsonb_build_object(
    'in_progress', (file_counts ->> 'in_progress')::bigint + $4::bigint,
    'completed', (file_counts ->> 'completed')::bigint + $5::bigint,
    'failed', (file_counts ->> 'failed')::bigint + $6::bigint,
    'cancelled', (file_counts ->> 'cancelled')::bigint + $7::bigint,
    'total', (file_counts ->> 'total')::bigint + $4::bigint + $5::bigint + $6::bigint + $7::bigint)`;

/** The parameters of `COUNTS`, from $1, the store, on. */
function countValues(id: string, rows: number, bytes: number, files: FileChange): unknown[] {
  const { in_progress = 0, completed = 0, failed = 0, cancelled = 0 } = files;
  return [id, bytes, rows, in_progress, completed, failed, cancelled];
}

/**
 * Moves `last_active_at` of stores and with it the expiry. The API shows seconds, so a store that was active within
 * the same second is not written again. Nor is one that has expired, or that somebody else is writing to at this
 * moment: nobody shall wait for a long ingest.
 */
export async function touchStores(client: Queryable, tables: Tables, ids: readonly string[]): Promise<void> {
  await client.query({
    name: "touch_stores",
    text: `update ${tables.vectorStores} set ${ACTIVE_NOW} where id in (
       select id from ${tables.vectorStores}
       where id = any($1::text[]) and coalesce(last_active_at < date_trunc('second', now()), true) and coalesce(expires_at > now(), true)
       for no key update skip locked)`,
    values: [ids],
  });
}

/** What rows added to a store mean for its own row. */
export interface Addition {
  rows: number;
  /** UTF-8 bytes of the rows' text. */
  bytes: number;
  /** How the counts of files change; default: each row is a completed file. */
  files?: FileChange;
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
        dimensions = coalesce(dimensions, $8::int), embedding_model = coalesce(embedding_model, $9::text)
      where id = $1 and coalesce(expires_at > now(), true)
        and coalesce(dimensions = $8::int, true) and coalesce(embedding_model = $9::text, true)`,
    values: [
      ...countValues(id, added.rows, added.bytes, added.files ?? { completed: added.rows }),
      added.dimensions,
      added.embeddingModel,
    ],
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

/**
 * Counts rows taken out of a store, in the transaction of the rows themselves. `files` says how the counts of files
 * change; default: each row that is no chunk of a file was a completed file.
 */
export async function recordRemoval(
  client: Queryable,
  tables: Tables,
  id: string,
  removed: Removed,
  files: FileChange = { completed: removed.chunks - removed.rows },
): Promise<void> {
  await client.query(
    `update ${tables.vectorStores} set ${COUNTS} where id = $1`,
    countValues(id, -removed.rows, -removed.bytes, files),
  );
}

/** Counts files that were attached, in the transaction of their rows. False when the store is gone or has expired. */
export async function recordAttachment(
  client: Queryable,
  tables: Tables,
  id: string,
  files: FileChange,
): Promise<boolean> {
  const result = await client.query(
    `update ${tables.vectorStores} set ${COUNTS}, ${ACTIVE_NOW} where id = $1 and coalesce(expires_at > now(), true)`,
    countValues(id, 0, 0, files),
  );
  return result.rowCount === 1;
}

/**
 * Counts files that have come to another state, in the transaction of their rows. With no count to change it notes
 * that rows of the store were changed.
 */
export async function recordTransition(
  client: Queryable,
  tables: Tables,
  id: string,
  files: FileChange,
): Promise<void> {
  await client.query(
    `update ${tables.vectorStores} set ${COUNTS} where id = $1`,
    countValues(id, 0, 0, files),
  );
}
