import type { Queryable } from "../postgres/database.ts";

/** Whether a Postgres text search configuration with this name is visible in the search path. */
export async function hasLanguage(client: Queryable, language: string): Promise<boolean> {
  const { rowCount } = await client.query(
    "select from pg_ts_config where cfgname = $1 and pg_ts_config_is_visible(oid)",
    [language],
  );
  return (rowCount ?? 0) > 0;
}
