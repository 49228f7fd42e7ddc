import type { Queryable } from "../postgres/database.ts";
import { composePage, type KeysetPage, type Position } from "../postgres/keyset.ts";
import type { Tables } from "../postgres/tables.ts";
import type { AttachmentRow, AttachmentStatus } from "./rows.ts";

/** A page of a store's files. */
export interface AttachmentPage extends KeysetPage {
  /** Only files with this status. */
  status?: AttachmentStatus | undefined;
  /** Only these files. */
  fileIds?: readonly string[] | undefined;
}

/** Where a file stands, or not long ago stood, in the list of a store; undefined when it is not known there. */
export async function findPosition(
  client: Queryable,
  tables: Tables,
  storeId: string,
  fileId: string,
): Promise<Position | undefined> {
  const where = `where vector_store_id = $1 and file_id = $2`;
  const result = await client.query<Position>(
    `select created_at::text as created_at, file_id as id from ${tables.vectorStoreFiles} ${where}
     union all
     select created_at::text, file_id from ${tables.removedFiles} ${where}`,
    [storeId, fileId],
  );
  return result.rows[0];
}

/** Reads a page of a store's files, in order of attachment. */
export async function listAttachments(
  client: Queryable,
  tables: Tables,
  storeId: string,
  page: AttachmentPage,
): Promise<AttachmentRow[]> {
  const params: unknown[] = [storeId];
  const { conditions, ending } = composePage(page, "file_id", params);
  if (page.status !== undefined) conditions.push(`status = $${params.push(page.status)}`);
  if (page.fileIds !== undefined) conditions.push(`file_id = any($${params.push(page.fileIds)}::text[])`);
  const result = await client.query<AttachmentRow>(
    `select vector_store_id, file_id, created_at, status, chunking, attributes, usage_bytes, chunk_count, error_code, error_message
     from ${tables.vectorStoreFiles} where ${["vector_store_id = $1", ...conditions].join(" and ")} ${ending}`,
    params,
  );
  return result.rows;
}
