import type { Queryable } from "../postgres/database.ts";
import { composePage, type KeysetPage, type Position } from "../postgres/keyset.ts";
import type { Tables } from "../postgres/tables.ts";

/** A row of the table of ingests. */
export interface IngestRow {
  vector_store_id: string;
  ingest_id: string;
  state: "open" | "completed" | "aborted";
  /** Bigints, as text. */
  through_seq: string;
  rows_written: string;
  rows_skipped: string;
  rows_rejected: string;
  /** A bigint, as text: bytes of texts and vectors. */
  row_bytes: string;
  /** A bigint, as text: how many rows the client has announced. */
  rows_announced: string | null;
  errors: RowFault[];
  created_at: Date;
}

/** Why a row was refused, as stored in the ingest's `errors`. */
export interface RowFault {
  seq: number;
  index: number;
  id: string;
  code: string;
  field: string;
  message: string;
}

/** What a commit adds to the ingest; `throughSeq` replaces the old value. */
export interface Progress {
  throughSeq: number;
  rowsWritten: number;
  rowsSkipped: number;
  rowsRejected: number;
  rowBytes: number;
  errors: readonly RowFault[];
}

/** Identifies an ingest: ids are unique within a store. */
export interface IngestKey {
  storeId: string;
  ingestId: string;
}

/** Days after its last update after which an ingest is deleted. */
const RETENTION_DAYS = 30;

const SUMMARY_COLUMNS =
  "vector_store_id, ingest_id, state, through_seq, rows_written, rows_skipped, rows_rejected, row_bytes, rows_announced, created_at";
const COLUMNS = `${SUMMARY_COLUMNS}, errors`;

/**
 * Creates an ingest, or reads the existing one with this id; `is_same` says whether its settings equal
 * `parameters`. Undefined when the store does not exist. Also deletes the store's ingests not updated for 30
 * days.
 */
export async function openIngest(
  client: Queryable,
  tables: Tables,
  { storeId, ingestId }: IngestKey,
  parameters: object,
  rowsAnnounced: number | null,
): Promise<(IngestRow & { is_same: boolean; vector_oid: number }) | undefined> {
  await client.query(
    `delete from ${tables.ingests}
     where vector_store_id = $1 and ingest_id <> $2 and updated_at < now() - ${RETENTION_DAYS} * interval '1 day'`,
    [storeId, ingestId],
  );
  const json = JSON.stringify(parameters);
  // FOR KEY SHARE blocks a concurrent deletion of the store, which would not see the new row and leave it
  // orphaned.
  await client.query(
    `insert into ${tables.ingests} (vector_store_id, ingest_id, parameters, rows_announced)
     select id, $2, $3::jsonb, $4 from ${tables.vectorStores} where id = $1 for key share
     on conflict do nothing`,
    [storeId, ingestId, json, rowsAnnounced],
  );
  const result = await client.query<IngestRow & { is_same: boolean; vector_oid: number }>(
    `select ${COLUMNS}, parameters = $3::jsonb as is_same, 'vector'::regtype::oid::int as vector_oid
     from ${tables.ingests} where vector_store_id = $1 and ingest_id = $2`,
    [storeId, ingestId, json],
  );
  return result.rows[0];
}

/** Reads an ingest; undefined when the ingest does not exist. */
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

/** Reads a page of a store's ingests, without the faults of their rows; `state`: only those in that state. */
export async function listIngests(
  client: Queryable,
  tables: Tables,
  storeId: string,
  page: KeysetPage & { state: IngestRow["state"] | undefined },
): Promise<IngestRow[]> {
  const params: unknown[] = [storeId];
  const { conditions, ending } = composePage(page, "ingest_id", params);
  if (page.state !== undefined) conditions.push(`state = $${params.push(page.state)}`);
  const result = await client.query<IngestRow>(
    `select ${SUMMARY_COLUMNS}, '[]'::jsonb as errors from ${tables.ingests}
     where ${["vector_store_id = $1", ...conditions].join(" and ")} ${ending}`,
    params,
  );
  return result.rows;
}

/** Where an ingest stands in the list of its store; undefined when there is no such ingest. */
export async function findIngestPosition(
  client: Queryable,
  tables: Tables,
  { storeId, ingestId }: IngestKey,
): Promise<Position | undefined> {
  const result = await client.query<Position>(
    `select created_at::text as created_at, ingest_id as id from ${tables.ingests}
     where vector_store_id = $1 and ingest_id = $2`,
    [storeId, ingestId],
  );
  return result.rows[0];
}

/**
 * Advances an ingest in the transaction of its rows, by compare-and-set on `through_seq`. Returns false when
 * the ingest is no longer open at `fromSeq`: another stream of the same ingest has advanced it, or it was
 * aborted or deleted. The transaction must then be rolled back, otherwise rows could be stored twice.
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
        rows_skipped = rows_skipped + $6, rows_rejected = rows_rejected + $7, errors = errors || $8::jsonb, row_bytes = row_bytes + $9, updated_at = now()
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
      progress.rowBytes,
    ],
  });
  return result.rowCount === 1;
}

/**
 * Sets the final state of an ingest that is open, at `atSeq` if given; undefined when there is no such
 * ingest.
 */
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

/**
 * Deletes at most `rowsMax` ingests, of any store, not updated for 30 days. Returns the number of deleted
 * ingests.
 */
export async function deleteOldIngests(client: Queryable, tables: Tables, rowsMax: number): Promise<number> {
  const result = await client.query(
    `delete from ${tables.ingests} where (vector_store_id, ingest_id) in (
       select vector_store_id, ingest_id from ${tables.ingests}
       where updated_at < now() - ${RETENTION_DAYS} * interval '1 day' limit $1 for update skip locked)`,
    [rowsMax],
  );
  return result.rowCount ?? 0;
}

/** Deletes the ingests of a store that is being deleted. */
export async function deleteIngests(client: Queryable, tables: Tables, storeId: string): Promise<void> {
  await client.query(`delete from ${tables.ingests} where vector_store_id = $1`, [storeId]);
}
