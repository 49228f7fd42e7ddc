import pg from "pg";
import { distributeTable } from "../postgres/citus/cluster.ts";
import type { Client, Database } from "../postgres/database.ts";
import { placeTables, type Tables } from "../postgres/tables.ts";
import { textVector } from "../postgres/text-index.ts";
import { cancellable } from "../postgres/transaction.ts";
import type { WorkContext } from "./context.ts";

/**
 * Statement that reads the xmin horizon: transactions below it have ended, so every later snapshot sees all that they
 * have committed.
 */
export const SNAPSHOT_XMIN = "select pg_snapshot_xmin(pg_current_snapshot())::text as xmin";

/**
 * Creates an own table of a store in the caller's transaction, empty, with the shared table's columns, indexes and grants and,
 * with `hasWords`, a generated tsvector column for keyword search. Returns its name, not quoted. Throws
 * InsufficientPrivilege.
 */
export async function makeTable(
  client: Client,
  database: Database,
  storeId: string,
  { language, hasWords }: { language: string; hasWords: boolean },
): Promise<string> {
  const { tables } = database;
  await requirePrivileges(client, tables);
  const { schema, name } = await chooseName(client, tables);
  const own = `${pg.escapeIdentifier(schema)}.${pg.escapeIdentifier(name)}`;
  await client.query(
    `create table ${own} (
       like ${tables.embeddings} including defaults including constraints including generated including storage including indexes,
       ${hasWords ? `content_tsvector tsvector generated always as (${textVector(tables.content, language)}) stored,` : ""}
       check (${tables.vectorStoreId} = ${pg.escapeLiteral(storeId)})
     ) with (toast_tuple_target = 8160)`,
  );
  await grantAlike(client, tables, own);
  if (database.citus?.distributes === true) await distributeTable(client, database, own);
  return name;
}

/**
 * Throws InsufficientPrivilege, with the GRANTs that are missing, before anything is copied: ALTER TABLE …
 * INHERIT, the last statement of the move, is allowed only to the owner of the shared table.
 */
async function requirePrivileges(client: Client, { embeddings, indexes }: Tables): Promise<void> {
  const { rows } = await client.query<{ remedies: string | null }>(
    `with shared as (select * from pg_class where oid = $1::regclass),
       numbers as (select pg_get_serial_sequence($2, 'number')::regclass as sequence)
     select string_agg(remedy, ' ') as remedies from (
       select format('grant create on schema %s to %I;', relnamespace::regnamespace, current_user) as remedy
       from shared where not has_schema_privilege(relnamespace, 'create')
       union all
       select format('alter table %s owner to %I;', oid::regclass, current_user) from shared where not pg_has_role(relowner, 'usage')
       union all
       select format('grant usage on sequence %s to %I;', sequence, current_user) from numbers where not has_sequence_privilege(sequence, 'usage')) as lacking`,
    [embeddings, indexes],
  );
  const remedies = rows[0]?.remedies;
  if (typeof remedies === "string")
    throw new InsufficientPrivilege(
      `The role lacks privileges that a store needs for its own table: ${remedies}`,
    );
}

/** The role lacks a privilege: only an administrator can fix the cause, so retries are rare. */
export class InsufficientPrivilege extends Error {}

/** Copies the shared table's GRANTs to the new table. */
async function grantAlike(client: Client, { embeddings }: Tables, own: string): Promise<void> {
  const { rows } = await client.query<{ statements: string | null }>(
    `select string_agg(format('grant %s on %s to %s%s', privilege_type, $2::text,
         case grantee when 0 then 'public' else grantee::regrole::text end, case when is_grantable then ' with grant option' end), '; ') as statements
     from pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner)))
     where oid = $1::regclass and grantee <> current_user::regrole`,
    [embeddings, own],
  );
  if (typeof rows[0]?.statements === "string") await client.query(rows[0].statements);
}

/**
 * A free name in the shared table's schema: the shared table's name and a number from the catalog's sequence.
 */
async function chooseName(client: Client, tables: Tables): Promise<{ schema: string; name: string }> {
  for (;;) {
    const { rows } = await client.query<{ schema: string; name: string; taken: boolean }>(
      `select nspname as schema, name,
         coalesce(to_regclass(format('%I.%I', nspname, name)), to_regclass(quote_ident(name))) is not null as taken
       from (select $1 || '_' || nextval(pg_get_serial_sequence($2, 'number')) as name) as drawn,
         pg_class join pg_namespace on pg_namespace.oid = relnamespace
       where pg_class.oid = $3::regclass`,
      [tables.embeddings.slice(1, -1).slice(0, 40), tables.indexes, tables.embeddings],
    );
    const [drawn] = rows;
    if (drawn?.taken === false) return drawn;
  }
}

/** The quoted names of a table's columns that are not generated, those that an operator added included. */
export async function findColumns(client: Client, table: string): Promise<string> {
  const { rows } = await client.query<{ columns: string }>(
    `select string_agg(quote_ident(attname), ', ' order by attnum) as columns from pg_attribute
     where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = ''`,
    [table],
  );
  return rows[0]?.columns ?? "";
}

/**
 * Creates the GIN indexes for metadata filters and keyword search, then VACUUM ANALYZE for the planner's
 * statistics.
 */
export async function finishTable(
  { database, pool, signal }: WorkContext,
  plan: { own_table: string | null },
): Promise<void> {
  const { embeddings, metadata } = placeTables(database.tables, plan);
  const name = plan.own_table ?? "";
  const indexed = { metadata: `${metadata} jsonb_path_ops`, text: "content_tsvector" };
  const { rows } = await cancellable(pool, signal, (client) =>
    client.query(
      "select 1 from pg_attribute where attrelid = $1::regclass and attname = 'content_tsvector'",
      [embeddings],
    ),
  );
  for (const [suffix, column] of Object.entries(indexed)) {
    if (suffix === "text" && rows.length === 0) continue;
    const index = pg.escapeIdentifier(`${name}_${suffix}`);
    await cancellable(pool, signal, (client) =>
      client.query(`create index if not exists ${index} on ${embeddings} using gin (${column})`),
    );
  }
  await cancellable(pool, signal, (client) => client.query(`vacuum (analyze) ${embeddings}`));
}
