import type { Queryable } from "../postgres/pool.ts";
import type { Tables } from "../postgres/tables.ts";

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

/** Where a list goes on: after this position in its order. */
export interface Position {
  /** A timestamp as Postgres writes it, which keeps its microseconds. */
  created_at: string;
  id: string;
}

/** What a statement selects or returns for a `FileRow`. */
export const FILE_COLUMNS = "id, filename, purpose, bytes, created_at, expires_at, object_url";

/** A file that is complete, not deleted and not expired. */
const THERE = "state = 'ready' and coalesce(expires_at > now(), true)";

/** Reads a file; undefined when there is none, or it has expired. */
export async function findFile(client: Queryable, tables: Tables, id: string): Promise<FileRow | undefined> {
  const result = await client.query<FileRow>(
    `select ${FILE_COLUMNS} from ${tables.files} where id = $1 and ${THERE}`,
    [id],
  );
  return result.rows[0];
}

/**
 * Keeps files from being deleted until the end of the transaction, and says which of the ids there are. To be called
 * before anything else is locked: a deletion locks the file, then its stores.
 */
export async function lockFiles(
  client: Queryable,
  tables: Tables,
  ids: readonly string[],
): Promise<Set<string>> {
  const result = await client.query<{ id: string }>(
    `select id from ${tables.files} where id = any($1::text[]) and ${THERE} order by id for share`,
    [ids],
  );
  return new Set(result.rows.map((row) => row.id));
}

/** Reads a file's position in the list; undefined when there is none. */
export async function findPosition(
  client: Queryable,
  tables: Tables,
  id: string,
): Promise<Position | undefined> {
  const result = await client.query<Position>(
    `select created_at::text as created_at, id from ${tables.files} where id = $1 and ${THERE}`,
    [id],
  );
  return result.rows[0];
}

/** Reads at most `rowsMax` files in order of (created_at, id), strictly after `after`. */
export async function listFiles(
  client: Queryable,
  tables: Tables,
  page: {
    rowsMax: number;
    descending: boolean;
    after?: Position | undefined;
    /** Only files with this purpose. */
    purpose?: string | undefined;
  },
): Promise<FileRow[]> {
  const params: unknown[] = [page.rowsMax];
  const conditions = [THERE];
  const { after, purpose } = page;
  if (after !== undefined) {
    const position = `($${params.push(after.created_at)}::timestamptz, $${params.push(after.id)}::text)`;
    conditions.push(`(created_at, id) ${page.descending ? "<" : ">"} ${position}`);
  }
  if (purpose !== undefined) conditions.push(`purpose = $${params.push(purpose)}`);
  const direction = page.descending ? "desc" : "asc";
  const result = await client.query<FileRow>(
    `select ${FILE_COLUMNS} from ${tables.files} where ${conditions.join(" and ")}
     order by created_at ${direction}, id ${direction} limit $1`,
    params,
  );
  return result.rows;
}

/** Ids of at most `rowsMax` files that have expired, the oldest first. */
export async function findExpiredFiles(
  client: Queryable,
  tables: Tables,
  rowsMax: number,
): Promise<string[]> {
  const result = await client.query<{ id: string }>(
    `select id from ${tables.files} where state = 'ready' and expires_at <= now() order by expires_at limit $1`,
    [rowsMax],
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
     where id = $1 and ${expired ? "state = 'ready' and expires_at <= now()" : THERE}
     returning ${FILE_COLUMNS}`,
    [id],
  );
  return result.rows[0];
}
