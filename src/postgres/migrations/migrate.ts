import { readdir, readFile } from "node:fs/promises";
import pg from "pg";
import type { Database, Queryable } from "../database.ts";
import { applyMigrations, type MigrationFile } from "./apply.ts";
import { installPgvector } from "./pgvector.ts";
import type { Tables } from "../tables.ts";
import { transaction } from "../transaction.ts";
import { registerVectorTypes } from "../connection/vector-types.ts";

/** Key of the advisory lock that serializes migrations; an arbitrary number, the same in every version. */
const LOCK_KEY = 7_074_110_310;

interface Migration extends MigrationFile {
  version: number;
}

/**
 * Applies the pending files of `migrations/`, in order, in one transaction and under an advisory lock, so
 * that processes that start together do not migrate twice. When none is pending the function only reads, and
 * needs no privilege to create anything. `report` gets a message before files are applied, and what
 * `applyMigrations` reports. Returns how many files were applied. Throws an Error with a message for operators
 * when the role lacks a privilege, when the database has migrations that this version does not know, and when
 * a PgBouncer drops the search_path that the URL's schema needs.
 */
export async function migrate(
  database: Database,
  report: (message: string) => void = () => {},
): Promise<{ applied: number }> {
  const migrations = await readMigrations(database.tables);
  if ((await findPending(database.pool, database, migrations)).length === 0) {
    await requireSearchPath(database.pool, database);
    return { applied: 0 };
  }
  return transaction(database.pool, async (client) => {
    await client.query("set local statement_timeout = 0");
    await client.query("select pg_advisory_xact_lock($1)", [LOCK_KEY]);
    const pending = await findPending(client, database, migrations);
    if (pending.length === 0) return { applied: 0 };
    report(`Applying ${pending.length} migrations, up to ${pending.at(-1)?.name}`);
    await prepare(client, database);
    await applyMigrations(client, database.tables, pending, report);
    // This connection was opened before the extension existed, so its types could not be registered then.
    await registerVectorTypes(client);
    return { applied: pending.length };
  });
}

/**
 * Returns the names of the pending migration files. Throws an Error with a message for operators when the
 * database has migrations that this version does not know.
 */
export async function listPending(queryable: Queryable, database: Database): Promise<string[]> {
  const pending = await findPending(queryable, database, await readMigrations(database.tables));
  return pending.map(({ name }) => name);
}

/**
 * Reads the migration files in order, and replaces psql's variables by the configured names of tables and
 * columns.
 */
async function readMigrations(tables: Tables): Promise<Migration[]> {
  const directory = new URL(".", import.meta.url);
  const names = (await readdir(directory)).filter((name) => name.endsWith(".sql")).toSorted();
  return Promise.all(
    names.map(async (name) => ({
      version: Number.parseInt(name, 10),
      name,
      sql: interpolate(await readFile(new URL(name, directory), "utf8"), tables),
    })),
  );
}

/** Replaces `:"name"` by a quoted identifier and `:'name'` by a quoted literal, like psql. */
function interpolate(sql: string, tables: Tables): string {
  const identifiers: Record<string, string> = {
    vector_stores: tables.vectorStores,
    embeddings: tables.embeddings,
    migrations: tables.migrations,
    ingests: tables.ingests,
    indexes: tables.indexes,
    files: tables.files,
    file_parts: tables.fileParts,
    vector_store_files: tables.vectorStoreFiles,
    file_batches: tables.fileBatches,
    removed_files: tables.removedFiles,
    staged_chunks: tables.stagedChunks,
    id: tables.id,
    vector_store_id: tables.vectorStoreId,
    content: tables.content,
    embedding: tables.embedding,
    metadata: tables.metadata,
    created_at: tables.createdAt,
  };
  return sql.replace(/:(["'])([a-z_]+)\1/g, (variable, quote: string, name: string) => {
    const identifier = identifiers[name];
    if (identifier === undefined) throw new Error(`A migration uses the unknown variable ${variable}.`);
    return quote === '"' ? identifier : `'${identifier.slice(1, -1)}'`;
  });
}

async function findPending(
  queryable: Queryable,
  database: Database,
  migrations: Migration[],
): Promise<Migration[]> {
  const { schema, tables } = database;
  // Not to_regclass: a session caches that a name does not exist, and would miss a table that another process
  // has just created.
  const { rows: found } = await queryable.query<{ name: string }>(
    `select format('%I.%I', nspname, relname) as name
     from pg_class join pg_namespace on pg_namespace.oid = relnamespace
     where nspname = coalesce($1, current_schema()) and relname = trim('"' from $2)`,
    [schema, tables.migrations],
  );
  const table = found[0]?.name;
  if (table === undefined) return migrations;
  const { rows } = await queryable.query<{ version: number }>(
    `select version from ${table} order by version`,
  );
  const applied = rows.at(-1)?.version ?? 0;
  const known = migrations.at(-1)?.version ?? 0;
  if (applied > known) {
    throw new Error(
      `The database has migration ${applied}, but this version of pgquiver knows only ${known}: ` +
        "a newer version has migrated the database. Start that version.",
    );
  }
  return migrations.filter(({ version }) => version > applied);
}

/** The extension vector as the server and the database have it. */
interface Extension {
  /** Whether the type `vector` is on the search_path. */
  visible: boolean;
  /** Schema of the installed extension; null: not installed in this database. */
  schema: string | null;
  /** Whether the server offers the extension for CREATE EXTENSION. */
  available: boolean;
  serverVersion: number;
}

/**
 * Creates the schema and the extension vector if they are missing. Throws, with the statements for an
 * administrator, when the role lacks the privilege for that or for creating and altering the tables.
 */
async function prepare(client: pg.PoolClient, database: Database): Promise<void> {
  const { schema, tables } = database;
  if (schema !== undefined) {
    const { rowCount } = await client.query("select from pg_namespace where nspname = $1", [schema]);
    if (rowCount === 0) await createOrRefuse(client, `create schema ${pg.escapeIdentifier(schema)}`);
    await requireSearchPath(client, database);
  }
  const { rows: types } = await client.query<Extension>(
    `select to_regtype('vector') is not null as visible,
       (select extnamespace::regnamespace::text from pg_extension where extname = 'vector') as schema,
       exists (select from pg_available_extensions where name = 'vector') as available,
       current_setting('server_version_num')::int as "serverVersion"`,
  );
  const extension = types[0];
  if (extension?.visible === false) {
    if (extension.schema !== null) {
      throw new Error(
        `The extension vector is in the schema ${extension.schema}, which is not on the service's search_path. ` +
          `Add ?options=-c%20search_path%3Dpublic,${extension.schema} to the database's URL.`,
      );
    }
    if (!extension.available)
      throw new Error(`The server does not have pgvector. ${installPgvector(extension.serverVersion)}`);
    // In public, which is on the search_path of every session here: with ?schema= the extension would
    // otherwise land in that schema, out of reach of other installations in the database.
    await createOrRefuse(client, `create extension vector${schema === undefined ? "" : " schema public"}`);
  }
  const { rows: grants } = await client.query<{ statement: string }>(
    `select format('grant create on schema %I to %I;', current_schema(), current_user) as statement
     where not has_schema_privilege(current_schema(), 'create')
     union all
     select format('alter table %s owner to %I;', oid::regclass, current_user)
     from pg_class
     where relnamespace = quote_ident(current_schema())::regnamespace
       and relname in (trim('"' from $1), trim('"' from $2)) and not pg_has_role(relowner, 'usage')`,
    [tables.vectorStores, tables.embeddings],
  );
  if (grants.length > 0) throw refusal(grants.map(({ statement }) => statement).join("\n  "));
}

/**
 * Throws when the URL names a schema behind a PgBouncer in transaction mode, and the role's own search_path
 * does not start with that schema: PgBouncer does not pass a session's search_path on, and tables would be
 * looked up in another schema.
 */
async function requireSearchPath(queryable: Queryable, { schema, isBehindBouncer }: Database): Promise<void> {
  if (schema === undefined || isBehindBouncer !== true) return;
  const { rows } = await queryable.query<{ is_current: boolean; statement: string }>(
    `select current_schema() is not distinct from $1 as is_current,
       format('alter role %I in database %I set search_path = %I, public;', current_user, current_database(), $1::text) as statement`,
    [schema],
  );
  if (rows[0]?.is_current === true) return;
  throw new Error(
    `DATABASE_URL names the schema ${schema}, and PgBouncer in transaction mode carries no search_path. ` +
      `Set the search_path of the role, then reconnect PgBouncer:\n  ${rows[0]?.statement}`,
  );
}

async function createOrRefuse(client: pg.PoolClient, statement: string): Promise<void> {
  await client.query(statement).catch((error: unknown) => {
    throw refusal(`${statement};`, error);
  });
}

/** An error that tells a database administrator which statements to run. */
function refusal(statements: string, cause?: unknown): Error {
  const reason = cause instanceof Error ? ` (${cause.message})` : "";
  return new Error(
    `The database lacks tables or the extension, and this role may not create them${reason}. ` +
      `Start pgquiver once with a role that may, or let an administrator run:\n  ${statements}`,
    { cause },
  );
}
