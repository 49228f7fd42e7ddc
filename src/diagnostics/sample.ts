import pg from "pg";

/** Pages of a table that a sample reads, on average: 2 MiB, some 8,000 to 16,000 rows of stores. */
const PAGES_MAX = 256;

/**
 * A table in FROM, of which whole pages are drawn at random (TABLESAMPLE SYSTEM) when it has more than PAGES_MAX; a
 * smaller one is read as a whole. So drawing stores costs the same however many there are. `table`: its quoted name.
 */
export function sampleOf(table: string): string {
  const pages = `pg_relation_size(${pg.escapeLiteral(table)}) / current_setting('block_size')::int`;
  return `${table} tablesample system ((select least(100, 100.0 * ${PAGES_MAX} / greatest(1, ${pages}))))`;
}
