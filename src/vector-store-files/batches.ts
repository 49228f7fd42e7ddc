import { setTimeout as delay } from "node:timers/promises";
import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import type { AttachmentStatus } from "./rows.ts";

/** Files attached together, as their row has them. */
export interface BatchRow {
  id: string;
  vector_store_id: string;
  created_at: Date;
  file_ids: string[];
  /** Whether a cancellation stopped any of them. */
  cancelled: boolean;
}

const COLUMNS = "id, vector_store_id, created_at, file_ids, cancelled";

/** Records which files were attached together. */
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

/** Reads a batch of a store; undefined when there is none. */
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

/** How many files of a batch are attached, by status. */
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

/** How often, and how long after each other, a cancellation looks for files whose rows were locked. */
const CANCEL_ATTEMPTS = 5;
const CANCEL_PAUSE_MS = 20;

/**
 * Takes those files of a batch that are in progress out of it. Returns how many they were; their part of the store's
 * counts is the caller's to change. A file whose chunks are being made rows of the store, for as long as that takes,
 * comes to its end: its row is locked, and for longer than that of one whose lease is renewed.
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

/** Cancels those files in progress whose rows nobody has locked. */
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
