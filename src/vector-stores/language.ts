import type { Queryable } from "../postgres/database.ts";

/** Whether the database has a text search configuration of this name. */
export async function hasLanguage(client: Queryable, language: string): Promise<boolean> {
  const { rowCount } = await client.query(
    "select from pg_ts_config where cfgname = $1 and pg_ts_config_is_visible(oid)",
    [language],
  );
  return (rowCount ?? 0) > 0;
}
