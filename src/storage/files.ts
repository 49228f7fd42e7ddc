import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";

/**
 * SQL condition over the files table: the upload is complete, and the file is neither deleted nor expired.
 */
export const FILE_EXISTS = "state = 'ready' and coalesce(expires_at > now(), true)";

/**
 * Locks files of a project FOR SHARE, so that they cannot be deleted before the transaction ends, and returns the ids that
 * exist. Call it before locking anything else: a deletion locks the file first, then its stores, and another
 * order would deadlock.
 */
export async function lockFiles(
  client: Queryable,
  tables: Tables,
  project: string,
  ids: readonly string[],
): Promise<Set<string>> {
  const result = await client.query<{ id: string }>(
    `select id from ${tables.files} where id = any($1::text[]) and project_id = $2 and ${FILE_EXISTS} order by id for share`,
    [ids, project],
  );
  return new Set(result.rows.map((row) => row.id));
}
