import { setTimeout as delay } from "node:timers/promises";
import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import type { AttachmentStatus } from "./rows.ts";

/** A row of the table of file batches: files attached by one request. */
export interface BatchRow {
  id: string;
  vector_store_id: string;
  created_at: Date;
  file_ids: string[];
  /** Whether a cancellation stopped the processing of at least one of the files. */
  cancelled: boolean;
}

const COLUMNS = "id, vector_store_id, created_at, file_ids, cancelled";

/** Inserts a batch and returns its row. */
export async function insertBatch(
  client: Queryable,
  tables: Tables,
  batch: { id: string; storeId: string; createdAt: Date; fileIds: readonly string[] },
): Promise<BatchRow> {
  const result = await client.query<BatchRow>(
    `insert into ${tables.fileBatches} (vector_store_id, id, created_at, file_ids) values ($1, $2, $3, $4)
     returning ${COLUMNS}`,
    [batch.storeId, batch.id, batch.createdAt, batch.fileIds],
  );
  return result.rows[0] as BatchRow;
}

/** Reads a batch; undefined when the store has no batch with this id. */
export async function findBatch(
  client: Queryable,
  tables: Tables,
  storeId: string,
  id: string,
): Promise<BatchRow | undefined> {
  const result = await client.query<BatchRow>(
    `select ${COLUMNS} from ${tables.fileBatches} where vector_store_id = $1 and id = $2`,
    [storeId, id],
  );
  return result.rows[0];
}

/** Counts the files of a batch that are still attached, by status. */
export async function countFiles(
  client: Queryable,
  tables: Tables,
  batch: BatchRow,
): Promise<Record<AttachmentStatus, number>> {
  const result = await client.query<{ status: AttachmentStatus; count: string }>(
    `select status, count(*) from ${tables.vectorStoreFiles}
     where vector_store_id = $1 and file_id = any($2::text[]) group by status`,
    [batch.vector_store_id, batch.file_ids],
  );
  const counts = { in_progress: 0, completed: 0, cancelled: 0, failed: 0 };
  for (const { status, count } of result.rows) counts[status] = Number(count);
  return counts;
}

/** A batch none of whose files is in progress any more. */
export interface EndedBatch {
  batch: BatchRow;
  counts: Record<AttachmentStatus, number>;
  /** Seconds since the batch was made. */
  seconds: number;
}

/** Finds those of the batches that have ended; one whose store was deleted has no files. */
export async function findEnded(
  client: Queryable,
  tables: Tables,
  batches: readonly BatchRow[],
): Promise<EndedBatch[]> {
  const result = await client.query<Record<AttachmentStatus, number> & { id: string; seconds: number }>(
    `select batch.id, round(extract(epoch from now() - batch.created_at)::numeric, 1)::float8 as seconds, files.*
     from unnest($1::text[], $2::timestamptz[], $3::text[]) as batch (id, created_at, vector_store_id)
       left join ${tables.fileBatches} as made on made.vector_store_id = batch.vector_store_id and made.id = batch.id
       cross join lateral (
         select count(*) filter (where status = 'in_progress')::int as in_progress,
           count(*) filter (where status = 'completed')::int as completed,
           count(*) filter (where status = 'cancelled')::int as cancelled,
           count(*) filter (where status = 'failed')::int as failed
         from ${tables.vectorStoreFiles} as file
         where file.vector_store_id = made.vector_store_id and file.file_id = any(made.file_ids)) as files
     where files.in_progress = 0`,
    [
      batches.map(({ id }) => id),
      batches.map(({ created_at }) => created_at),
      batches.map(({ vector_store_id }) => vector_store_id),
    ],
  );
  return result.rows.flatMap(({ id, seconds, ...counts }) => {
    const batch = batches.find((one) => one.id === id);
    return batch === undefined ? [] : [{ batch, counts, seconds }];
  });
}

/** How often, and with what pause between attempts, a cancellation retries files whose rows were locked. */
const CANCEL_ATTEMPTS = 5;
const CANCEL_PAUSE_MS = 20;

/**
 * Cancels the files of a batch that are in progress, and returns how many; the caller must update the store's
 * counts. Rows locked by another transaction are skipped (SKIP LOCKED) and retried four times, 20 ms apart. A
 * lease renewal ends within that time; a transaction that publishes a file's chunks usually does not, so such
 * a file completes.
 */
export async function cancelBatch(client: Queryable, tables: Tables, batch: BatchRow): Promise<number> {
  let count = 0;
  for (let attempt = 1; attempt <= CANCEL_ATTEMPTS; attempt++) {
    if (attempt > 1) await delay(CANCEL_PAUSE_MS);
    count += await cancelFree(client, tables, batch);
    if ((await countFiles(client, tables, batch)).in_progress === 0) break;
  }
  if (count > 0) {
    await client.query(
      `update ${tables.fileBatches} set cancelled = true where vector_store_id = $1 and id = $2`,
      [batch.vector_store_id, batch.id],
    );
  }
  return count;
}

/** Cancels the files in progress whose rows are not locked. */
async function cancelFree(client: Queryable, tables: Tables, batch: BatchRow): Promise<number> {
  const result = await client.query(
    `with free as (
       select file_id from ${tables.vectorStoreFiles}
       where vector_store_id = $1 and file_id = any($2::text[]) and status = 'in_progress'
       order by file_id for no key update skip locked)
     update ${tables.vectorStoreFiles} as file set status = 'cancelled', claim = null
     from free where file.vector_store_id = $1 and file.file_id = free.file_id`,
    [batch.vector_store_id, batch.file_ids],
  );
  return result.rowCount ?? 0;
}
