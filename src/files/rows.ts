import type { Queryable } from "../postgres/database.ts";
import { composePage, type KeysetPage, type Position } from "../postgres/keyset.ts";
import type { Tables } from "../postgres/tables.ts";
import { FILE_EXISTS } from "../storage/files.ts";

/** A file as its row has it. */
export interface FileRow {
  id: string;
  filename: string;
  purpose: string;
  /** A bigint, as text. */
  bytes: string;
  created_at: Date;
  expires_at: Date | null;
  /** Where the bytes are, see buckets.ts; null: in the database. */
  object_url: string | null;
}

/** What a statement selects or returns for a `FileRow`. */
export const FILE_COLUMNS = "id, filename, purpose, bytes, created_at, expires_at, object_url";

/** Reads a file; undefined when there is none, or it has expired. */
export async function findFile(client: Queryable, tables: Tables, id: string): Promise<FileRow | undefined> {
  const result = await client.query<FileRow>(
    `select ${FILE_COLUMNS} from ${tables.files} where id = $1 and ${FILE_EXISTS}`,
    [id],
  );
  return result.rows[0];
}

/** Reads a file's position in the list; undefined when there is none. */
export async function findPosition(
  client: Queryable,
  tables: Tables,
  id: string,
): Promise<Position | undefined> {
  const result = await client.query<Position>(
    `select created_at::text as created_at, id from ${tables.files} where id = $1 and ${FILE_EXISTS}`,
    [id],
  );
  return result.rows[0];
}

/** Reads a page of the files, all or with one purpose. */
export async function listFiles(
  client: Queryable,
  tables: Tables,
  page: KeysetPage & { purpose?: string | undefined },
): Promise<FileRow[]> {
  const params: unknown[] = [];
  const { conditions, ending } = composePage(page, "id", params);
  if (page.purpose !== undefined) conditions.push(`purpose = $${params.push(page.purpose)}`);
  const result = await client.query<FileRow>(
    `select ${FILE_COLUMNS} from ${tables.files} where ${[FILE_EXISTS, ...conditions].join(" and ")} ${ending}`,
    params,
  );
  return result.rows;
}

/** Ids of at most `rowsMax` files that have expired, the oldest first. */
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

/**
 * Deletes a file for everybody, in the caller's transaction and first in it; its bytes remain for `removeBytes`, after
 * the commit. Only an expired one with `expired`. Undefined when there is none.
 */
export async function deleteFile(
  client: Queryable,
  tables: Tables,
  id: string,
  { expired = false } = {},
): Promise<FileRow | undefined> {
  const result = await client.query<FileRow>(
    `update ${tables.files} set state = 'deleted', updated_at = now()
     where id = $1 and ${expired ? "state = 'ready' and expires_at <= now()" : FILE_EXISTS}
     returning ${FILE_COLUMNS}`,
    [id],
  );
  return result.rows[0];
}
