import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";

/**
 * A version that changes whenever a store's rows or their table change; undefined when the store does not
 * exist. A replica with the same version as the primary has every write to the store that the primary had
 * acknowledged. Searches do not change the version. `created_at` tells a store from a deleted one with the
 * same id; its epoch is used because its text depends on the server's time zone.
 */
export async function findVersion(
  client: Queryable,
  tables: Tables,
  id: string,
): Promise<string | undefined> {
  const result = await client.query<{ version: string }>({
    name: "find_version",
    text: `select concat_ws(' ', extract(epoch from created_at), row_changes, own_table, index_precision, restricts_readers) as version
      from ${tables.vectorStores} where id = $1`,
    values: [id],
  });
  return result.rows[0]?.version;
}
