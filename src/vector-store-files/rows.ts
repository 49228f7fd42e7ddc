import type { Chunking } from "../documents/cutter.ts";
import { compileReaders, type Readers } from "../filters/readers.ts";
import type { Queryable } from "../postgres/database.ts";
import type { FileProgress } from "./progress.ts";
import type { Tables } from "../postgres/tables.ts";

/** Processing state of an attached file. */
export type AttachmentStatus = "in_progress" | "completed" | "cancelled" | "failed";

/** Why a file failed: OpenAI's codes. */
export type AttachmentErrorCode = "server_error" | "unsupported_file" | "invalid_file";

/** The attributes that the caller gave a file: at most 16 pairs. Only `readers` may be a list. */
export type Attributes = Record<string, string | number | boolean | readonly string[]>;

/** A row of the table of attachments: a file attached to a store. */
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
  /** Of the attempt that is under way; null: none is, or it has just begun. */
  progress: FileProgress | null;
  /** The file whose place this one takes, or has taken; null: of none. */
  replaced_file_id: string | null;
}

/** A file to attach. */
export interface NewAttachment {
  fileId: string;
  attributes: Attributes | null;
  chunking: Chunking;
}

/** Numbers of files that `insertAttachments` has set in progress, by their status before. */
export interface Attached {
  /** Files that were not attached. */
  added: number;
  /** Files that were attached but failed or cancelled, and are processed again. */
  failed: number;
  cancelled: number;
}

/** The columns of an attachment, for a select. */
export const COLUMNS = `vector_store_id, file_id, created_at, status, chunking, attributes, usage_bytes, chunk_count, error_code, error_message, case when progress ->> 'claim' = claim then progress end as progress, replaces ->> 'fileId' as replaced_file_id`;

/** Assignments that reset an existing row to be processed from the beginning, but for when it is due and what it replaces. */
export const BEGINNING = `status = 'in_progress', error_code = null, error_message = null, claim = null, attempts = 0, retries = 0, waiting_since = null`;

/**
 * Inserts attachments, to be processed by the pipeline. A file that is already attached is left unchanged,
 * unless its status is failed or cancelled: then it is processed again. The file ids must be distinct. To
 * prevent deadlocks between two such calls, rows are locked in order of file id: first all new rows, then the
 * existing ones.
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
       set ${BEGINNING}, due_at = now(), replaces = null, attributes = incoming.attributes, chunking = incoming.chunking, place = number - 1
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

/** Reads an attachment; undefined when the file is not attached, or the readers may not read it. */
export async function findAttachment(
  client: Queryable,
  tables: Tables,
  storeId: string,
  fileId: string,
  readers?: Readers,
): Promise<AttachmentRow | undefined> {
  const params: unknown[] = [storeId, fileId];
  const isVisible = compileReaders(tables, "$1", readers, "attributes", params);
  const result = await client.query<AttachmentRow>(
    `select ${COLUMNS} from ${tables.vectorStoreFiles}
     where vector_store_id = $1 and file_id = $2 and ${isVisible}`,
    params,
  );
  return result.rows[0];
}

/**
 * Reads an attachment and locks its row until the end of the transaction. Every change or removal of an
 * attachment takes this row lock before that of the store, which prevents deadlocks.
 */
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

/** Replaces a file's attributes; the caller must also update the metadata of the file's chunks. */
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

/** Deletes an attachment and remembers its list position for an hour, so that paging can continue from it. */
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
 * Deletes every attachment and file batch of a store. Call this before the store's row is locked: the common
 * lock order is attachments, then store. The store's counts are not changed.
 */
export async function deleteAttachments(client: Queryable, tables: Tables, storeId: string): Promise<void> {
  await client.query(
    `select from ${tables.vectorStoreFiles} where vector_store_id = $1 order by file_id for update`,
    [storeId],
  );
  for (const table of [tables.vectorStoreFiles, tables.fileBatches, tables.removedFiles])
    await client.query(`delete from ${table} where vector_store_id = $1`, [storeId]);
}

/** Ids of the stores a file is attached to, in order of id. */
export async function findStoresOfFile(client: Queryable, tables: Tables, fileId: string): Promise<string[]> {
  const result = await client.query<{ vector_store_id: string }>(
    `select vector_store_id from ${tables.vectorStoreFiles} where file_id = $1 order by vector_store_id`,
    [fileId],
  );
  return result.rows.map((row) => row.vector_store_id);
}
