import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";

/**
 * What tells one state of a store's rows, and of where they are, from every other; undefined when there is no such
 * store. A database that gives the same version as the primary has every write to the store that the primary had
 * acknowledged by then. Searching does not change it. Two stores that had an id one after the other differ in
 * `created_at`, taken as a number because its text depends on each server's time zone.
 */
export async function findVersion(
  client: Queryable,
  tables: Tables,
  id: string,
): Promise<string | undefined> {
  const result = await client.query<{ version: string }>({
    name: "find_version",
    text: `select concat_ws(' ', extract(epoch from created_at), row_changes, own_table, index_precision) as version
      from ${tables.vectorStores} where id = $1`,
    values: [id],
  });
  return result.rows[0]?.version;
}
