import { fileNotFound, invalidArgument, missingParameter } from "../errors.ts";
import { attachmentLock, lockShared } from "../postgres/advisory.ts";
import type { Client } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { isStorable } from "../postgres/text.ts";
import { lockStore, countAttachment, countRemoval } from "../storage/counts.ts";
import { deleteEmbeddings, type Removed } from "../storage/embeddings.ts";
import { lockFiles } from "../storage/files.ts";
import { openForWriting } from "../storage/placement.ts";
import { chunksOfSlice, sliceChunks } from "./chunks.ts";
import {
  deleteAttachment,
  findStoresOfFile,
  insertAttachments,
  lockAttachment,
  type AttachmentRow,
  type NewAttachment,
} from "./rows.ts";
import { projectOf } from "../store-id.ts";

/** A file to attach, with the request field that holds its id, such as `files[2].file_id`. */
export interface Attachable extends NewAttachment {
  param: string;
}

/**
 * Attaches files to a store, in the caller's transaction. Throws NOT_FOUND for the first file that does not
 * exist. Returns false when the store is deleted or expired; the caller must then roll back. If a file id
 * occurs more than once, the first entry is used.
 */
export async function attachFiles(
  client: Client,
  tables: Tables,
  storeId: string,
  files: readonly Attachable[],
): Promise<boolean> {
  const unique = new Map<string, Attachable>();
  for (const file of files) if (!unique.has(file.fileId)) unique.set(file.fileId, file);
  const found = await lockFiles(client, tables, projectOf(storeId), [...unique.keys()]);
  const missing = files.find((file) => !found.has(file.fileId));
  if (missing !== undefined) throw fileNotFound(missing.fileId, missing.param);
  // Advisory lock, held exclusively by a deletion of the store: a deletion that has already removed the
  // store's attachments would otherwise not see the rows inserted here and would leave them orphaned.
  await lockShared(client, tables, attachmentLock(storeId));
  const { added, failed, cancelled } = await insertAttachments(client, tables, storeId, [...unique.values()]);
  return countAttachment(client, tables, storeId, {
    in_progress: added + failed + cancelled,
    failed: -failed,
    cancelled: -cancelled,
  });
}

/**
 * `statement_timeout` in ms for statements over a file's chunks: an update inserts each chunk into the HNSW
 * index.
 */
export const CHUNKS_TIMEOUT_MS = 600_000;

/**
 * Removes a file and its chunks from a store. The caller's transaction must not have written to the store
 * before: the row locks are taken in the common order (attachment, store, chunks), which prevents deadlocks.
 * Returns false when the file is not attached.
 */
export async function removeAttachment(
  client: Client,
  tables: Tables,
  storeId: string,
  fileId: string,
): Promise<boolean> {
  await client.query(`set local statement_timeout = ${CHUNKS_TIMEOUT_MS}`);
  const placed = await openForWriting(client, tables, storeId);
  if (placed === undefined) return false;
  const file = await lockAttachment(client, tables, storeId, fileId);
  if (file === undefined) return false;
  return removeLocked(client, tables, placed, file);
}

/**
 * As `removeAttachment`, of a file whose row is locked. `placed`: the tables of `openForWriting`. Returns false when the
 * store is gone.
 */
export async function removeLocked(
  client: Client,
  tables: Tables,
  placed: Tables,
  file: Pick<AttachmentRow, "vector_store_id" | "file_id" | "status" | "chunk_count">,
): Promise<boolean> {
  const { vector_store_id: storeId, file_id: fileId } = file;
  if (!(await lockStore(client, tables, storeId))) return false;
  const removed: Removed = { rows: 0, chunks: 0, bytes: 0 };
  for (const slice of sliceChunks(fileId, file.chunk_count)) {
    const { rows, chunks, bytes } = await deleteEmbeddings(
      client,
      placed,
      storeId,
      chunksOfSlice(tables),
      slice,
    );
    removed.rows += rows;
    removed.chunks += chunks;
    removed.bytes += bytes;
  }
  await deleteAttachment(client, tables, storeId, fileId);
  await countRemoval(client, tables, storeId, removed, { [file.status]: -1 });
  return true;
}

/**
 * Removes a file from every store. Call this in the transaction that has already marked the file's row as
 * deleted: a concurrent `attachFiles` waits for the lock on the file's row, so no attachment can be missed.
 */
export async function detachFile(client: Client, tables: Tables, fileId: string): Promise<void> {
  for (const storeId of await findStoresOfFile(client, tables, fileId))
    await removeAttachment(client, tables, storeId, fileId);
}

/**
 * Checks that a file id is present and begins with `file-`. Throws INVALID_ARGUMENT with OpenAI's wording.
 */
export function checkFileId(id: string, param: string): void {
  if (id === "") throw missingParameter(param);
  checkPrefix(id, "file-", param);
}

/** Throws INVALID_ARGUMENT, with OpenAI's wording, when an id lacks the resource's prefix or contains NUL. */
export function checkPrefix(id: string, prefix: string, param: string): void {
  if (id.startsWith(prefix) && isStorable(id)) return;
  throw invalidArgument(param, `Invalid '${param}': '${id}'. Expected an ID that begins with '${prefix}'.`);
}
