import type { Client, Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import type { FileRow } from "./rows.ts";
import type { FileDescription } from "./upload.ts";

/** State of an upload in parts. */
export type UploadState = "pending" | "completed" | "cancelled" | "expired";

/** A row of the table of uploads in parts. */
export interface UploadRow {
  id: string;
  created_at: Date;
  expires_at: Date;
  status: UploadState;
  /** A bigint, as text. */
  bytes: string;
  filename: string;
  purpose: string;
  expires_after_seconds: number | null;
  /** The file, once the upload is completed. */
  file_id: string | null;
}

const COLUMNS = `id, created_at, expires_at, bytes, filename, purpose, expires_after_seconds, file_id,
  case when status = 'pending' and expires_at <= now() then 'expired' else status end as status`;

/** A new upload. */
export interface NewUpload extends FileDescription {
  id: string;
  createdAt: Date;
  project: string;
  /** Announced bytes. */
  bytes: number;
  /** Seconds until the upload expires. */
  secondsMax: number;
}

/** Inserts an upload and returns its row. */
export async function insertUpload(client: Client, tables: Tables, upload: NewUpload): Promise<UploadRow> {
  const { id, project, createdAt, secondsMax, bytes, filename, purpose, expiresAfterSeconds } = upload;
  const result = await client.query<UploadRow>(
    `insert into ${tables.uploads}
       (id, project_id, created_at, expires_at, bytes, filename, purpose, expires_after_seconds)
     values ($1, $2, $3::timestamptz, $3::timestamptz + $4::int * interval '1 second', $5, $6, $7, $8) returning ${COLUMNS}`,
    [id, project, createdAt, secondsMax, bytes, filename, purpose, expiresAfterSeconds],
  );
  return result.rows[0] as UploadRow;
}

/** Counts the pending uploads of a project. */
export async function countPending(client: Queryable, tables: Tables, project: string): Promise<number> {
  const result = await client.query<{ count: number }>(
    `select count(*)::int as count from ${tables.uploads}
     where project_id = $1 and status = 'pending' and expires_at > now()`,
    [project],
  );
  return result.rows[0]?.count ?? 0;
}

/**
 * Reads an upload of a project; undefined when it does not exist. `lock`: until the end of the transaction, "for share"
 * against its end, "for update" to end it.
 */
export async function findUpload(
  client: Queryable,
  tables: Tables,
  id: string,
  project: string,
  lock: "" | "for share" | "for update" = "",
): Promise<UploadRow | undefined> {
  const result = await client.query<UploadRow>(
    `select ${COLUMNS} from ${tables.uploads} where id = $1 and project_id = $2 ${lock}`,
    [id, project],
  );
  return result.rows[0];
}

/** Ends an upload whose row is locked, and returns the row. */
export async function endUpload(
  client: Client,
  tables: Tables,
  id: string,
  status: "completed" | "cancelled",
  fileId: string | null = null,
): Promise<UploadRow> {
  const result = await client.query<UploadRow>(
    `update ${tables.uploads} set status = $2, file_id = $3 where id = $1 returning ${COLUMNS}`,
    [id, status, fileId],
  );
  return result.rows[0] as UploadRow;
}

/** SQL condition: the row of the table of files is a part of upload $1, all of whose bytes are there. */
const IS_PART = "upload_id = $1 and state = 'uploading' and bytes > 0";

/** Counts the parts of an upload, and their bytes. */
export async function measureParts(
  client: Queryable,
  tables: Tables,
  uploadId: string,
): Promise<{ count: number; bytes: number }> {
  const result = await client.query<{ count: number; bytes: number }>(
    `select count(*)::int as count, coalesce(sum(bytes), 0)::float8 as bytes from ${tables.files} where ${IS_PART}`,
    [uploadId],
  );
  return result.rows[0] as { count: number; bytes: number };
}

/** A part, to be read. */
export type PartRow = Pick<FileRow, "id" | "bytes" | "object_url">;

/** Reads parts of an upload in any order, and puts off their removal as abandoned. */
export async function takeParts(
  client: Client,
  tables: Tables,
  uploadId: string,
  ids: readonly string[],
): Promise<PartRow[]> {
  const result = await client.query<PartRow>(
    `update ${tables.files} set updated_at = now() where ${IS_PART} and id = any($2::text[]) returning id, bytes, object_url`,
    [uploadId, ids],
  );
  return result.rows;
}

/**
 * Marks the parts of an upload as deleted, whose row is locked, and returns them; call `removeBytes` after the commit. A part
 * that is just being completed is locked, and waits for the upload's row: it is skipped (SKIP LOCKED), and removes itself when it finds
 * that the upload has ended.
 */
export async function deleteParts(client: Client, tables: Tables, uploadId: string): Promise<PartRow[]> {
  const result = await client.query<PartRow>(
    `update ${tables.files} set state = 'deleted', updated_at = now()
     where id in (select id from ${tables.files} where ${IS_PART} order by id for update skip locked)
     returning id, bytes, object_url`,
    [uploadId],
  );
  return result.rows;
}

/** Days after which the row of an upload that has expired or ended is deleted. */
const KEPT_DAYS = 1;

/** Deletes the rows of at most `rowsMax` old uploads, and returns how many; their parts are removed as abandoned uploads. */
export async function deleteOldUploads(client: Queryable, tables: Tables, rowsMax: number): Promise<number> {
  const result = await client.query(
    `delete from ${tables.uploads} where id in (
       select id from ${tables.uploads} where expires_at < now() - ${KEPT_DAYS} * interval '1 day'
       limit $1 for update skip locked)`,
    [rowsMax],
  );
  return result.rowCount ?? 0;
}
