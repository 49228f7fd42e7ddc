import pg from "pg";
import type { Database, Queryable } from "../database.ts";
import { applyMigrations } from "./apply.ts";
import { MIGRATIONS, readMigrations, type Migration } from "./files.ts";
import { findWriters, readHistory, recordChecksums, type History } from "./history.ts";
import { installPgvector } from "../pgvector.ts";
import { transaction } from "../transaction.ts";
import { registerVectorTypes } from "../connection/vector-types.ts";

/** Key of the advisory lock that serializes migrations; an arbitrary number, the same in every version. */
const LOCK_KEY = 7_074_110_310;

/**
 * Applies the pending files of `directory`, in order, in one transaction and under an advisory lock, so that
 * processes that start together do not migrate twice, and records their checksums. When none is pending the
 * function only reads, and needs no privilege to create anything. `report` gets a message before files are
 * applied, what `applyMigrations` reports, and a message when a newer version has migrated the database in a
 * way that this version can work with. Returns how many files were applied. Throws an Error with a message for
 * operators when the role lacks a privilege, when `readHistory` refuses the database, and when a PgBouncer
 * drops the search_path that the URL's schema needs.
 */
export async function migrate(
  database: Database,
  report: (message: string) => void = () => {},
  directory = MIGRATIONS,
): Promise<{ applied: number }> {
  const migrations = await readMigrations(database.tables, directory);
  const history = await readHistory(database.pool, database, migrations);
  if (history.newer !== undefined)
    report(`A newer version has migrated the database (${history.newer}); this version can work beside it`);
  if (history.pending.length === 0 && !history.lacksChecksums) {
    await requireSearchPath(database.pool, database);
    return { applied: 0 };
  }
  // Not the pool itself, whose transactions need the table `writers`.
  const anyPool = { connect: async () => database.pool.connect() };
  return transaction(anyPool, async (client) => {
    await client.query("set local statement_timeout = 0");
    await client.query("select pg_advisory_xact_lock($1)", [LOCK_KEY]);
    const { pending, lacksChecksums } = await readHistory(client, database, migrations);
    if (pending.length > 0) {
      report(`Applying ${pending.length} migrations, up to ${pending.at(-1)?.name}`);
      await prepare(client, database);
      await apply(client, database, pending, report);
    }
    if (pending.length > 0 || lacksChecksums) await recordChecksums(client, database, migrations);
    return { applied: pending.length };
  });
}

/**
 * Applies the files. Where one of them contracts, writers are shut out first, before any other lock is taken:
 * they lock the table `writers` first too.
 */
async function apply(
  client: pg.PoolClient,
  database: Database,
  pending: readonly Migration[],
  report: (message: string) => void,
): Promise<void> {
  const contraction = pending.find(({ contracts }) => contracts);
  const writers = contraction === undefined ? undefined : await findWriters(client, database);
  const shutOut =
    contraction === undefined || writers === undefined
      ? []
      : [{ name: contraction.name, sql: `lock table ${writers} in access exclusive mode` }];
  const tables = { ...database.tables, writers: writers ?? database.tables.writers };
  await applyMigrations(client, tables, [...shutOut, ...pending], report);
  // This connection was opened before the extension existed, so its types could not be registered then.
  await registerVectorTypes(client);
}

/** Reads the history as `migrate` does, and applies nothing. */
export async function compareMigrations(queryable: Queryable, database: Database): Promise<History> {
  return readHistory(queryable, database, await readMigrations(database.tables, MIGRATIONS));
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
