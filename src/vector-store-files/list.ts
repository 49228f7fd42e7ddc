import { compileReaders, type Readers } from "../filters/readers.ts";
import type { Queryable } from "../postgres/database.ts";
import { composePage, type KeysetPage, type Position } from "../postgres/keyset.ts";
import type { Tables } from "../postgres/tables.ts";
import { COLUMNS, type AttachmentRow, type AttachmentStatus } from "./rows.ts";

/** Which page of a store's files to read. */
export interface AttachmentPage extends KeysetPage {
  /** Returns only files with this status; default: all. */
  status?: AttachmentStatus | undefined;
  /** Returns only files with these ids; default: all. */
  fileIds?: readonly string[] | undefined;
  /** Returns only files that these may read; default: all. */
  readers?: Readers;
}

/**
 * The list position of a file in a store, also for an hour after the file was removed, so that a loop which
 * deletes what it lists can continue; undefined when neither is known.
 */
export async function findAttachmentPosition(
  client: Queryable,
  tables: Tables,
  storeId: string,
  fileId: string,
  readers: Readers,
): Promise<Position | undefined> {
  const params: unknown[] = [storeId, fileId];
  const where = `where vector_store_id = $1 and file_id = $2`;
  const isVisible = compileReaders(tables, "$1", readers, "attributes", params);
  const result = await client.query<Position>(
    `select created_at::text as created_at, file_id as id from ${tables.vectorStoreFiles} ${where} and ${isVisible}
     union all
     select created_at::text, file_id from ${tables.removedFiles} ${where}`,
    params,
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
  conditions.push(compileReaders(tables, "$1", page.readers, "attributes", params));
  const result = await client.query<AttachmentRow>(
    `select ${COLUMNS}
     from ${tables.vectorStoreFiles} where ${["vector_store_id = $1", ...conditions].join(" and ")} ${ending}`,
    params,
  );
  return result.rows;
}
