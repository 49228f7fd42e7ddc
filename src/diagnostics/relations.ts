import type { Database } from "../postgres/database.ts";

/**
 * A WITH clause that defines `ours`: this service's tables in the current schema, own tables of stores
 * included; empty before the first migration. Parameter $1 is `tableNames`. A distributed table of a cluster is no child
 * of the shared one: it is known by its name.
 */
export function withOurs({ citus }: Database): string {
  const distributed =
    citus === undefined
      ? ""
      : `or relname ~ ('^' || ($1::text[])[1] || '_[0-9]+$') and oid in (select logicalrelid from pg_dist_partition where partmethod = 'h')`;
  return `with ours as (
    select oid, relname, reltuples from pg_class
    where relnamespace = to_regnamespace(quote_ident(current_schema())) and relkind = 'r'
      and (relname = any($1) ${distributed} or oid in (
        select inhrelid from pg_inherits join pg_class as parent on parent.oid = inhparent
        where parent.relname = ($1::text[])[1] and parent.relnamespace = to_regnamespace(quote_ident(current_schema()))))
  )`;
}
