import type { Client, Database, Queryable } from "../database.ts";
import { WRITERS_PREFIX } from "../tables.ts";
import type { Migration } from "./files.ts";

/** What a database's table of migrations says, compared with the migration files of this version. */
export interface History {
  /** The files that are not applied yet, in order. */
  pending: Migration[];
  /** Whether checksums of applied files are missing that this role may record. */
  lacksChecksums: boolean;
  /** The newest applied migration, when this version does not know it but can work beside it. */
  newer: string | undefined;
}

/**
 * Reads the history. Throws an Error with a message for operators when a file was edited after it had been
 * applied, and when a newer version has changed the tables so that this version must not write them.
 */
export async function readHistory(
  queryable: Queryable,
  database: Database,
  migrations: readonly Migration[],
): Promise<History> {
  const table = await findTable(queryable, database, database.tables.migrations.slice(1, -1));
  if (table === undefined) return { pending: [...migrations], lacksChecksums: false, newer: undefined };
  // By to_jsonb, because the column exists since migration 9 only.
  const { rows } = await queryable.query<Applied>(
    `select version, name, to_jsonb(applied) ->> 'checksum' as checksum,
       to_jsonb(applied) ? 'checksum' and has_table_privilege($1, 'update') as "isWritable"
     from ${table} as applied order by version`,
    [table],
  );
  checkFiles(rows, migrations);
  const newest = rows.at(-1);
  const applied = newest?.version ?? 0;
  const isNewer = applied > (migrations.at(-1)?.version ?? 0);
  if (isNewer && (await findTable(queryable, database, database.tables.writers.slice(1, -1))) === undefined) {
    throw new Error(
      `A newer version of pgquiver has migrated the database (migration ${newest?.name}), and this version ` +
        "must not write its tables. Start the newer version.",
    );
  }
  return {
    pending: migrations.filter(({ version }) => version > applied),
    lacksChecksums: rows.some(
      ({ version, checksum, isWritable }) =>
        checksum === null && isWritable && migrations.some((file) => file.version === version),
    ),
    newer: isNewer ? newest?.name : undefined,
  };
}

/** A row of the table of migrations. */
interface Applied {
  version: number;
  name: string;
  checksum: string | null;
  isWritable: boolean;
}

function checkFiles(applied: readonly Applied[], migrations: readonly Migration[]): void {
  for (const { version, checksum } of applied) {
    const file = migrations.find((migration) => migration.version === version);
    if (file === undefined || checksum === null || file.checksum === checksum) continue;
    throw new Error(
      `The migration ${file.name} was edited after this database had applied it (SHA-256 ${checksum} then, ` +
        `${file.checksum} now), so the tables may not be those that this version expects. Restore the file, and ` +
        "make the change in a new migration.",
    );
  }
}

/** Records the checksums of the applied files that have none. */
export async function recordChecksums(
  client: Client,
  { tables }: Database,
  migrations: readonly Migration[],
): Promise<void> {
  await client.query(
    `update ${tables.migrations} as applied set checksum = file.checksum
     from unnest($1::int[], $2::text[]) as file (version, checksum)
     where applied.version = file.version and applied.checksum is null`,
    [migrations.map(({ version }) => version), migrations.map(({ checksum }) => checksum)],
  );
}

/** The quoted name of the table `writers` in the database, of whatever generation; undefined before migration 9. */
export async function findWriters(client: Client, database: Database): Promise<string | undefined> {
  const suffix = database.tables.writers.slice(1, -1).replace(WRITERS_PREFIX, "");
  const { rows } = await client.query<{ name: string }>(
    `select format('"%s"', relname) as name
     from pg_class join pg_namespace on pg_namespace.oid = relnamespace
     where nspname = coalesce($1, current_schema()) and relname ~ $2
       and regexp_replace(relname, $2, '') = $3`,
    [database.schema, WRITERS_PREFIX.source, suffix],
  );
  return rows[0]?.name;
}

/** A table's name with its schema, quoted; undefined when it does not exist. */
async function findTable(
  queryable: Queryable,
  { schema }: Database,
  name: string,
): Promise<string | undefined> {
  // Not to_regclass: a session caches that a name does not exist, and would miss a table that another process
  // has just created.
  const { rows } = await queryable.query<{ name: string }>(
    `select format('%I.%I', nspname, relname) as name
     from pg_class join pg_namespace on pg_namespace.oid = relnamespace
     where nspname = coalesce($1, current_schema()) and relname = $2`,
    [schema, name],
  );
  return rows[0]?.name;
}
