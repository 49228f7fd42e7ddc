import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";

/** An ingest as its row has it. */
export interface IngestRow {
  vector_store_id: string;
  ingest_id: string;
  state: "open" | "completed" | "aborted";
  /** Bigints, as text. */
  through_seq: string;
  rows_written: string;
  rows_skipped: string;
  rows_rejected: string;
  errors: RowFault[];
  created_at: Date;
}

/** Why a row was refused, as kept with the ingest. */
export interface RowFault {
  seq: number;
  index: number;
  id: string;
  code: string;
  field: string;
  message: string;
}

/** What a commit adds to its ingest. */
export interface Progress {
  throughSeq: number;
  rowsWritten: number;
  rowsSkipped: number;
  rowsRejected: number;
  errors: readonly RowFault[];
}

/** Names an ingest. */
export interface IngestKey {
  storeId: string;
  ingestId: string;
}

/** Days after which an ingest that nobody touched is forgotten. */
const RETENTION_DAYS = 30;

const COLUMNS = `vector_store_id, ingest_id, state, through_seq, rows_written, rows_skipped, rows_rejected, errors, created_at`;

/**
 * Opens an ingest, new or known, and says whether its settings are those it was first opened with.
 * Undefined when the store is gone. Forgets the store's ingests of more than 30 days ago.
 */
export async function openIngest(
  client: Queryable,
  tables: Tables,
  { storeId, ingestId }: IngestKey,
  parameters: object,
): Promise<(IngestRow & { is_same: boolean; vector_oid: number }) | undefined> {
  await client.query(
    `delete from ${tables.ingests}
     where vector_store_id = $1 and ingest_id <> $2 and updated_at < now() - ${RETENTION_DAYS} * interval '1 day'`,
    [storeId, ingestId],
  );
  const json = JSON.stringify(parameters);
  // The lock on the store's row keeps a deletion of the store from missing the new row.
  await client.query(
    `insert into ${tables.ingests} (vector_store_id, ingest_id, parameters)
     select id, $2, $3::jsonb from ${tables.vectorStores} where id = $1 for key share
     on conflict do nothing`,
    [storeId, ingestId, json],
  );
  const result = await client.query<IngestRow & { is_same: boolean; vector_oid: number }>(
    `select ${COLUMNS}, parameters = $3::jsonb as is_same, 'vector'::regtype::oid::int as vector_oid
     from ${tables.ingests} where vector_store_id = $1 and ingest_id = $2`,
    [storeId, ingestId, json],
  );
  return result.rows[0];
}

/** Reads an ingest; undefined when there is none. */
export async function findIngest(
  client: Queryable,
  tables: Tables,
  { storeId, ingestId }: IngestKey,
): Promise<IngestRow | undefined> {
  const result = await client.query<IngestRow>(
    `select ${COLUMNS} from ${tables.ingests} where vector_store_id = $1 and ingest_id = $2`,
    [storeId, ingestId],
  );
  return result.rows[0];
}

/**
 * Moves an ingest on, in the transaction of its rows. False when it does not stand at `fromSeq`
 * any more: another stream of the same ingest has moved it, or it was aborted or deleted. Then the
 * transaction must be rolled back.
 */
export async function recordProgress(
  client: Queryable,
  tables: Tables,
  { storeId, ingestId }: IngestKey,
  fromSeq: number,
  progress: Progress,
): Promise<boolean> {
  const result = await client.query({
    name: "record_progress",
    text: `update ${tables.ingests} set through_seq = $4, rows_written = rows_written + $5,
        rows_skipped = rows_skipped + $6, rows_rejected = rows_rejected + $7, errors = errors || $8::jsonb, updated_at = now()
      where vector_store_id = $1 and ingest_id = $2 and state = 'open' and through_seq = $3`,
    values: [
      storeId,
      ingestId,
      fromSeq,
      progress.throughSeq,
      progress.rowsWritten,
      progress.rowsSkipped,
      progress.rowsRejected,
      JSON.stringify(progress.errors),
    ],
  });
  return result.rowCount === 1;
}

/** Ends an open ingest that stands at `atSeq`; undefined when there is none. */
export async function endIngest(
  client: Queryable,
  tables: Tables,
  { storeId, ingestId }: IngestKey,
  state: "completed" | "aborted",
  atSeq?: number,
): Promise<IngestRow | undefined> {
  const result = await client.query<IngestRow>(
    `update ${tables.ingests} set state = $3, updated_at = now()
     where vector_store_id = $1 and ingest_id = $2 and state = 'open' and through_seq = coalesce($4::bigint, through_seq)
     returning ${COLUMNS}`,
    [storeId, ingestId, state, atSeq ?? null],
  );
  return result.rows[0];
}

/** Forgets at most `rowsMax` ingests, of any store, that nobody touched for 30 days. */
export async function deleteOldIngests(client: Queryable, tables: Tables, rowsMax: number): Promise<number> {
  const result = await client.query(
    `delete from ${tables.ingests} where (vector_store_id, ingest_id) in (
       select vector_store_id, ingest_id from ${tables.ingests}
       where updated_at < now() - ${RETENTION_DAYS} * interval '1 day' limit $1 for update skip locked)`,
    [rowsMax],
  );
  return result.rowCount ?? 0;
}

/** Forgets the ingests of a store, with the store. */
export async function deleteIngests(client: Queryable, tables: Tables, storeId: string): Promise<void> {
  await client.query(`delete from ${tables.ingests} where vector_store_id = $1`, [storeId]);
}
