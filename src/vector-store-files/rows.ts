import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";

/** How far an attached file is. */
export type AttachmentStatus = "in_progress" | "completed" | "cancelled" | "failed";

/** Why a file failed, in OpenAI's words. */
export type AttachmentErrorCode = "server_error" | "unsupported_file" | "invalid_file";

/** How a file is cut. */
export interface Chunking {
  unit: "tokens" | "characters";
  sizeMax: number;
  overlap: number;
}

/** The caller's own attributes of a file. */
export type Attributes = Record<string, string | number | boolean>;

/** A file attached to a store, as its row has it. */
export interface AttachmentRow {
  vector_store_id: string;
  file_id: string;
  created_at: Date;
  status: AttachmentStatus;
  chunking: Chunking;
  attributes: Attributes | null;
  /** A bigint, as text. */
  usage_bytes: string;
  chunk_count: number;
  error_code: AttachmentErrorCode | null;
  error_message: string | null;
}

/** A file to be attached. */
export interface NewAttachment {
  fileId: string;
  attributes: Attributes | null;
  chunking: Chunking;
}

/** What attaching came to. */
export interface Attached {
  /** Files that were not attached before. */
  added: number;
  /** Files that had failed or been cancelled, and are processed anew. */
  failed: number;
  cancelled: number;
}

const COLUMNS = `vector_store_id, file_id, created_at, status, chunking, attributes, usage_bytes, chunk_count, error_code, error_message`;

/** What a row in progress begins with. */
const BEGINNING = `status = 'in_progress', error_code = null, error_message = null, due_at = now(), claim = null, attempts = 0, retries = 0, waiting_since = null`;

/**
 * Attaches files to a store, to be processed: a file that is attached already stays as it is, unless it failed or was
 * cancelled. The file ids must differ. Rows are locked in order of file id, those that are new before all others, so
 * that two such calls never wait for each other.
 */
export async function insertAttachments(
  client: Queryable,
  tables: Tables,
  storeId: string,
  files: readonly NewAttachment[],
): Promise<Attached> {
  const values = [
    storeId,
    files.map((file) => file.fileId),
    files.map((file) => (file.attributes === null ? null : JSON.stringify(file.attributes))),
    files.map((file) => JSON.stringify(file.chunking)),
  ];
  const incoming = `unnest($2::text[], $3::jsonb[], $4::jsonb[]) with ordinality as incoming (file_id, attributes, chunking, number)`;
  const inserted = await client.query(
    `insert into ${tables.vectorStoreFiles} (vector_store_id, file_id, attributes, chunking, place)
     select $1, file_id, attributes, chunking, number - 1 from ${incoming} order by file_id
     on conflict do nothing`,
    values,
  );
  const added = inserted.rowCount ?? 0;
  if (added === files.length) return { added, failed: 0, cancelled: 0 };
  const renewed = await client.query<{ failed: string; cancelled: string }>(
    `with old as (
       select file_id, status from ${tables.vectorStoreFiles}
       where vector_store_id = $1 and file_id = any($2) and status in ('failed', 'cancelled')
       order by file_id for no key update),
     renewed as (
       update ${tables.vectorStoreFiles} as file
       set ${BEGINNING}, attributes = incoming.attributes, chunking = incoming.chunking, place = number - 1
       from old join ${incoming} using (file_id)
       where file.vector_store_id = $1 and file.file_id = old.file_id
       returning old.status)
     select count(*) filter (where status = 'failed') as failed,
       count(*) filter (where status = 'cancelled') as cancelled from renewed`,
    values,
  );
  const [old] = renewed.rows;
  return { added, failed: Number(old?.failed), cancelled: Number(old?.cancelled) };
}

/** Reads an attached file; undefined when it is not attached. */
export async function findAttachment(
  client: Queryable,
  tables: Tables,
  storeId: string,
  fileId: string,
): Promise<AttachmentRow | undefined> {
  const result = await client.query<AttachmentRow>(
    `select ${COLUMNS} from ${tables.vectorStoreFiles} where vector_store_id = $1 and file_id = $2`,
    [storeId, fileId],
  );
  return result.rows[0];
}

/** The same, and locks the row until the end of the transaction: the first lock of all that remove or change it. */
export async function lockAttachment(
  client: Queryable,
  tables: Tables,
  storeId: string,
  fileId: string,
): Promise<AttachmentRow | undefined> {
  const result = await client.query<AttachmentRow>(
    `select ${COLUMNS} from ${tables.vectorStoreFiles} where vector_store_id = $1 and file_id = $2 for update`,
    [storeId, fileId],
  );
  return result.rows[0];
}

/** Replaces a file's attributes; those of its chunks are the caller's to replace. */
export async function updateAttributes(
  client: Queryable,
  tables: Tables,
  storeId: string,
  fileId: string,
  attributes: Attributes | null,
): Promise<void> {
  await client.query(
    `update ${tables.vectorStoreFiles} set attributes = $3::jsonb where vector_store_id = $1 and file_id = $2`,
    [storeId, fileId, attributes === null ? null : JSON.stringify(attributes)],
  );
}

/** Removes a file's row, and remembers for an hour where it stood in the list. */
export async function deleteAttachment(
  client: Queryable,
  tables: Tables,
  storeId: string,
  fileId: string,
): Promise<void> {
  await client.query(
    `with removed as (
       delete from ${tables.vectorStoreFiles} where vector_store_id = $1 and file_id = $2
       returning vector_store_id, file_id, created_at)
     insert into ${tables.removedFiles} (vector_store_id, file_id, created_at)
     select vector_store_id, file_id, created_at from removed
     on conflict (vector_store_id, file_id) do update set created_at = excluded.created_at, removed_at = now()`,
    [storeId, fileId],
  );
}

/**
 * Removes every file and batch of a store, before the store itself: their rows are locked before the store's, as
 * everybody does. Nothing is counted.
 */
export async function deleteAttachments(client: Queryable, tables: Tables, storeId: string): Promise<void> {
  await client.query(
    `select from ${tables.vectorStoreFiles} where vector_store_id = $1 order by file_id for update`,
    [storeId],
  );
  for (const table of [tables.vectorStoreFiles, tables.fileBatches, tables.removedFiles])
    await client.query(`delete from ${table} where vector_store_id = $1`, [storeId]);
}

/** The stores a file is attached to, in order of id. */
export async function findStoresOfFile(client: Queryable, tables: Tables, fileId: string): Promise<string[]> {
  const result = await client.query<{ vector_store_id: string }>(
    `select vector_store_id from ${tables.vectorStoreFiles} where file_id = $1 order by vector_store_id`,
    [fileId],
  );
  return result.rows.map((row) => row.vector_store_id);
}
