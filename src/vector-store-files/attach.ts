import { fileNotFound, invalidArgument, missingParameter } from "../errors.ts";
import { attachmentLock, lockShared } from "../postgres/advisory.ts";
import type { Client } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { isStorable } from "../postgres/text.ts";
import { lockStore, recordAttachment, recordRemoval } from "../storage/counts.ts";
import { deleteEmbeddings, type Removed } from "../storage/embeddings.ts";
import { lockFiles } from "../storage/files.ts";
import { openForWriting } from "../storage/placement.ts";
import { chunksOfSlice, sliceChunks } from "./chunks.ts";
import {
  deleteAttachment,
  findStoresOfFile,
  insertAttachments,
  lockAttachment,
  type NewAttachment,
} from "./rows.ts";

/** A file to be attached, with the request's field that names it. */
export interface Attachable extends NewAttachment {
  param: string;
}

/**
 * Attaches files to a store, in the caller's transaction: all of them, or an error that names the first that does not
 * exist. False when the store is gone or has expired, which must roll back. Of several with one id the first counts.
 */
export async function attachFiles(
  client: Client,
  tables: Tables,
  storeId: string,
  files: readonly Attachable[],
): Promise<boolean> {
  const unique = new Map<string, Attachable>();
  for (const file of files) if (!unique.has(file.fileId)) unique.set(file.fileId, file);
  const found = await lockFiles(client, tables, [...unique.keys()]);
  const missing = files.find((file) => !found.has(file.fileId));
  if (missing !== undefined) throw fileNotFound(missing.fileId, missing.param);
  // Else a deletion of the store that is under way, and has removed its files, would not see these.
  await lockShared(client, tables, attachmentLock(storeId));
  const { added, failed, cancelled } = await insertAttachments(client, tables, storeId, [...unique.values()]);
  return recordAttachment(client, tables, storeId, {
    in_progress: added + failed + cancelled,
    failed: -failed,
    cancelled: -cancelled,
  });
}

/** How long a statement over the chunks of a file may take: each may have to be entered into a vector index. */
export const CHUNKS_TIMEOUT_MS = 600_000;

/**
 * Removes a file from a store with its chunks, in a transaction of the caller's that has not written to the store
 * before. The locks are taken in the order of everybody: the file's row, the store's, the chunks. False when the file
 * is not attached.
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
  if (file === undefined || !(await lockStore(client, tables, storeId))) return false;
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
  await recordRemoval(client, tables, storeId, removed, { [file.status]: -1 });
  return true;
}

/**
 * Removes a file from every store, in the transaction in which its own row was deleted before: whoever attaches it
 * waits for that.
 */
export async function detachFile(client: Client, tables: Tables, fileId: string): Promise<void> {
  for (const storeId of await findStoresOfFile(client, tables, fileId))
    await removeAttachment(client, tables, storeId, fileId);
}

/** Checks the form of a file's id; the wording is OpenAI's. */
export function checkFileId(id: string, param: string): void {
  if (id === "") throw missingParameter(param);
  checkPrefix(id, "file-", param);
}

/** Refuses an id of another kind of resource, in OpenAI's words. */
export function checkPrefix(id: string, prefix: string, param: string): void {
  if (id.startsWith(prefix) && isStorable(id)) return;
  throw invalidArgument(param, `Invalid '${param}': '${id}'. Expected an ID that begins with '${prefix}'.`);
}
