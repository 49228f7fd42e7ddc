/**
 * A WITH clause that defines `ours`: this service's tables in the current schema, own tables of stores
 * included; empty before the first migration. Parameter $1 is `tableNames`.
 */
export const WITH_OURS = `with ours as (
    select oid, relname, reltuples from pg_class
    where relnamespace = to_regnamespace(quote_ident(current_schema())) and relkind = 'r'
      and (relname = any($1) or oid in (
        select inhrelid from pg_inherits join pg_class as parent on parent.oid = inhparent
        where parent.relname = ($1::text[])[1] and parent.relnamespace = to_regnamespace(quote_ident(current_schema()))))
  )`;
