import type { Queryable } from "../postgres/database.ts";
import { composePage, type KeysetPage, type Position } from "../postgres/keyset.ts";
import type { Tables } from "../postgres/tables.ts";
import { FILE_EXISTS } from "../storage/files.ts";

/** A row of the table of files. */
export interface FileRow {
  id: string;
  filename: string;
  purpose: string;
  /** A bigint, as text. */
  bytes: string;
  created_at: Date;
  expires_at: Date | null;
  /** The address of the object with the bytes, see buckets.ts; null: the bytes are in the database. */
  object_url: string | null;
}

/** The columns of a `FileRow`, for SELECT and RETURNING. */
export const FILE_COLUMNS = "id, filename, purpose, bytes, created_at, expires_at, object_url";

/** SQL condition: the file is of the project $2; null: of any. */
const OF_PROJECT = "project_id = coalesce($2::text, project_id)";

/**
 * Reads a file of a project, by default of any; undefined when the file does not exist, is still being uploaded, or has
 * expired.
 */
export async function findFile(
  client: Queryable,
  tables: Tables,
  id: string,
  project: string | null = null,
  isForReader = false,
): Promise<FileRow | undefined> {
  const result = await client.query<FileRow>(
    `select ${FILE_COLUMNS} from ${tables.files} as file
     where id = $1 and ${OF_PROJECT} and ${FILE_EXISTS} and ${isForReader ? isUnrestricted(tables) : "true"}`,
    [id, project],
  );
  return result.rows[0];
}

/** Reads the list position of a project's file; undefined when the file does not exist. */
export async function findFilePosition(
  client: Queryable,
  tables: Tables,
  id: string,
  project: string,
): Promise<Position | undefined> {
  const result = await client.query<Position>(
    `select created_at::text as created_at, id from ${tables.files} where id = $1 and ${OF_PROJECT} and ${FILE_EXISTS}`,
    [id, project],
  );
  return result.rows[0];
}

/** Reads a page of a project's files, optionally only those with one purpose. */
export async function listFiles(
  client: Queryable,
  tables: Tables,
  page: KeysetPage & { project: string; purpose?: string | undefined; isForReader?: boolean },
): Promise<FileRow[]> {
  const params: unknown[] = [page.project];
  const { conditions, ending } = composePage(page, "id", params);
  if (page.isForReader === true) conditions.push(isUnrestricted(tables));
  if (page.purpose !== undefined) conditions.push(`purpose = $${params.push(page.purpose)}`);
  const result = await client.query<FileRow>(
    `select ${FILE_COLUMNS} from ${tables.files} as file
     where ${["project_id = $1", FILE_EXISTS, ...conditions].join(" and ")} ${ending}`,
    params,
  );
  return result.rows;
}

/** Ids of at most `rowsMax` expired files without those of `except`, in order of expiry. */
export async function findExpiredFiles(
  client: Queryable,
  tables: Tables,
  rowsMax: number,
  except: readonly string[],
): Promise<string[]> {
  const result = await client.query<{ id: string }>(
    `select id from ${tables.files} where state = 'ready' and expires_at <= now() and id <> all($2::text[])
     order by expires_at limit $1`,
    [rowsMax, except],
  );
  return result.rows.map((row) => row.id);
}

/** Which file may be deleted. */
export interface FileDeletion {
  expired?: boolean;
  project?: string | null;
  isForReader?: boolean;
}

/**
 * SQL condition: `file` is in no store that restricts its readers. A file has no readers of its own, so callers with readers do
 * not see such a file but in its store.
 */
function isUnrestricted(tables: Tables): string {
  return `not exists (select from ${tables.vectorStoreFiles} as attached join ${tables.vectorStores} as store on store.id = vector_store_id
    where attached.file_id = file.id and restricts_readers)`;
}

/**
 * Marks a file as deleted and returns its row; undefined when the file does not exist. Call this first in a
 * transaction, because the lock order is file, then stores; call `removeBytes` after the commit. With
 * `expired`, only a file whose expiry has passed is deleted; with `project`, only a file of that project; with `isForReader`, none of a
 * store that restricts its readers.
 */
export async function deleteFile(
  client: Queryable,
  tables: Tables,
  id: string,
  { expired = false, project = null, isForReader = false }: FileDeletion = {},
): Promise<FileRow | undefined> {
  const result = await client.query<FileRow>(
    `update ${tables.files} as file set state = 'deleted', updated_at = now()
     where id = $1 and ${OF_PROJECT} and ${isForReader ? isUnrestricted(tables) : "true"} and ${expired ? "state = 'ready' and expires_at <= now()" : FILE_EXISTS}
     returning ${FILE_COLUMNS}`,
    [id, project],
  );
  return result.rows[0];
}
