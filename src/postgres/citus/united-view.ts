import { hash } from "node:crypto";
import pg from "pg";
import type { Client, Database, Queryable } from "../database.ts";
import type { Tables } from "../tables.ts";
import { transaction } from "../transaction.ts";

/** The names, not quoted, of the view of all embeddings and of the function behind it. */
export function nameUnitedView({ embeddings }: Pick<Tables, "embeddings">): {
  view: string;
  function: string;
} {
  const view = `all_${embeddings.slice(1, -1)}`.slice(0, 60);
  return { view, function: `${view}_of` };
}

/** What the database has of the view. */
interface Present {
  /** The schema of the shared table, and the two tables with their schemas, all quoted. */
  schema: string;
  embeddings: string;
  vectorStores: string;
  /** The columns of the shared table, and those of a relation with the view's name; null: there is none. */
  columns: string;
  viewColumns: string | null;
  /** The comment on that relation. */
  comment: string | null;
}

/** What the comment on a view that the service has made begins with. */
const MARK = "pgquiver: the rows of all stores, by ";

/**
 * Makes the view of all embeddings, in the shared table and in the tables on nodes, which cannot be its children. A function
 * reads the stores' tables by their names when it runs: so the view needs no change when a store gets a table or is deleted,
 * and no DROP TABLE, of whichever version of the service, fails because a view depends on the table. Function and view run
 * with the privileges and the row-level security of the caller, who is given the rows of those stores whose row in
 * `vector_stores` he sees. A relation of that name that the service has not made is left alone.
 */
export async function installUnitedView({ pool, tables }: Database): Promise<void> {
  if (isDone(await readPresent(pool, tables), tables)) return;
  await transaction(pool, async (client) => {
    // Two CREATE OR REPLACE at the same time fail.
    await client.query("select pg_advisory_xact_lock(hashtextextended('pgquiver united view', 0))");
    const present = await readPresent(client, tables);
    if (!isDone(present, tables)) await createView(client, tables, present);
  });
}

function isDone(present: Present, tables: Tables): boolean {
  const { comment, columns, viewColumns } = present;
  if (viewColumns !== null && comment?.startsWith(MARK) !== true) return true;
  return viewColumns === columns && comment === markOf(present, tables);
}

/** The comment on a view of this version of the function. */
function markOf(present: Present, tables: Tables): string {
  return `${MARK}${hash("sha1", bodyOf(present, tables))}`;
}

async function readPresent(queryable: Queryable, tables: Tables): Promise<Present> {
  const columnsOf = (relation: string) =>
    `(select string_agg(quote_ident(attname), ', ' order by attnum) from pg_attribute
      where attrelid = ${relation} and attnum > 0 and not attisdropped)`;
  const { rows } = await queryable.query<Present>(
    `select quote_ident(space.nspname) as schema, format('%I.%I', space.nspname, shared.relname) as embeddings,
       (select format('%I.%I', nspname, relname) from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where pg_class.oid = $2::regclass) as "vectorStores",
       ${columnsOf("shared.oid")} as columns, ${columnsOf("present.oid")} as "viewColumns",
       obj_description(present.oid, 'pg_class') as comment
     from pg_class as shared join pg_namespace as space on space.oid = shared.relnamespace
     left join pg_class as present on present.relnamespace = space.oid and present.relname = $3
     where shared.oid = $1::regclass`,
    [tables.embeddings, tables.vectorStores, nameUnitedView(tables).view],
  );
  return rows[0] as Present;
}

async function createView(client: Client, tables: Tables, present: Present): Promise<void> {
  const names = nameUnitedView(tables);
  const view = `${present.schema}.${pg.escapeIdentifier(names.view)}`;
  const read = `${present.schema}.${pg.escapeIdentifier(names.function)}`;
  // Of the coordinator alone: the nodes have no shared table.
  await client.query("set local citus.enable_ddl_propagation = off");
  await client.query(
    `create or replace function ${read}(store_ids text[] default null) returns setof ${present.embeddings}
     language plpgsql stable as ${pg.escapeLiteral(bodyOf(present, tables))}`,
  );
  await client.query(
    `create or replace view ${view} with (security_invoker = true) as select ${present.columns} from ${read}()`,
  );
  // Whoever reads the view needs the privileges on the tables too.
  await client.query(`grant select on ${view} to public`);
  await client.query(`comment on view ${view} is ${pg.escapeLiteral(markOf(present, tables))}`);
}

/**
 * The body of the function. A store's rows are taken from one table only: while a store is moved, its old rows are in the
 * shared table too.
 */
function bodyOf({ schema, embeddings, vectorStores }: Present, tables: Tables): string {
  const ownTable = `pg_catalog.format('%s.%I', ${pg.escapeLiteral(schema)}, stores.own_table)`;
  return `
declare
  own_tables text[];
  stores_on_nodes text[];
  column_names text;
  own text;
begin
  select pg_catalog.array_agg(${ownTable}), pg_catalog.array_agg(stores.id) into own_tables, stores_on_nodes
  from ${vectorStores} as stores
  where (store_ids is null or stores.id = any(store_ids)) and stores.own_table is not null and exists (
    select from pg_catalog.pg_dist_partition as placed
    where placed.logicalrelid = pg_catalog.to_regclass(${ownTable}) and placed.partmethod = 'h');
  return query
    select shared.* from ${embeddings} as shared join ${vectorStores} as stores on stores.id = shared.${tables.vectorStoreId}
    where (store_ids is null or stores.id = any(store_ids)) and (stores_on_nodes is null or stores.id <> all(stores_on_nodes));
  select pg_catalog.string_agg(pg_catalog.quote_ident(attname), ', ' order by attnum) into column_names
  from pg_catalog.pg_attribute
  where attrelid = ${pg.escapeLiteral(embeddings)}::pg_catalog.regclass and attnum > 0 and not attisdropped;
  foreach own in array coalesce(own_tables, '{}') loop
    return query execute 'select ' || column_names || ' from ' || own;
  end loop;
end `;
}
