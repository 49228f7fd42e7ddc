import type { Queryable } from "../postgres/pool.ts";
import type { Tables } from "../postgres/tables.ts";
import type { AttachmentRow, AttachmentStatus } from "./attachments.ts";

/** Where a list goes on: after this position in the direction of walking. */
export interface Position {
  /** A timestamp as Postgres writes it, which keeps its microseconds. */
  created_at: string;
  file_id: string;
}

/** A page of a store's files. */
export interface AttachmentPage {
  rowsMax: number;
  descending: boolean;
  backward: boolean;
  after?: Position | undefined;
  before?: Position | undefined;
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
    `select created_at::text as created_at, file_id from ${tables.vectorStoreFiles} ${where}
     union all
     select created_at::text, file_id from ${tables.removedFiles} ${where}`,
    [storeId, fileId],
  );
  return result.rows[0];
}

/**
 * Reads at most `rowsMax` files of a store in order of (created_at, file_id), strictly after `after` and before
 * `before` in the list's order, walking from its end when `backward`.
 */
export async function listAttachments(
  client: Queryable,
  tables: Tables,
  storeId: string,
  page: AttachmentPage,
): Promise<AttachmentRow[]> {
  const params: unknown[] = [storeId];
  const conditions = ["vector_store_id = $1"];
  const bound = (comparison: string, position: Position | undefined) => {
    if (position === undefined) return;
    const [at, id] = [params.push(position.created_at), params.push(position.file_id)];
    conditions.push(`(created_at, file_id) ${comparison} ($${at}::timestamptz, $${id}::text)`);
  };
  bound(page.descending ? "<" : ">", page.after);
  bound(page.descending ? ">" : "<", page.before);
  if (page.status !== undefined) conditions.push(`status = $${params.push(page.status)}`);
  if (page.fileIds !== undefined) conditions.push(`file_id = any($${params.push(page.fileIds)}::text[])`);
  const direction = page.descending === page.backward ? "asc" : "desc";
  const result = await client.query<AttachmentRow>(
    `select vector_store_id, file_id, created_at, status, chunking, attributes, usage_bytes, chunk_count, error_code, error_message
     from ${tables.vectorStoreFiles} where ${conditions.join(" and ")}
     order by created_at ${direction}, file_id ${direction} limit $${params.push(page.rowsMax)}`,
    params,
  );
  return result.rows;
}
