import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";

/** A file that is complete, not deleted and not expired. */
export const FILE_EXISTS = "state = 'ready' and coalesce(expires_at > now(), true)";

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
    `select id from ${tables.files} where id = any($1::text[]) and ${FILE_EXISTS} order by id for share`,
    [ids],
  );
  return new Set(result.rows.map((row) => row.id));
}
