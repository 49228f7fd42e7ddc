import { hash } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { lockExclusive } from "../advisory.ts";
import type { Client, Database, Queryable } from "../database.ts";
import { isInsufficientPrivilege, isLockTimeout } from "../errors.ts";
import { readTransaction, transaction } from "../transaction.ts";
import { restrictClient } from "./client.ts";
import { accessTo, policyStatements } from "./policies.ts";

/** Why row-level security cannot be used, and what an administrator can do. */
export class RowSecurityProblem extends Error {
  readonly remedy: string;

  constructor(message: string, remedy: string, cause?: unknown) {
    super(message, { cause });
    this.remedy = remedy;
  }
}

/** Lock timeout of one try, since readers queue behind it; the pause between tries, and how many there are. */
const LOCK_TRY_MS = 300;
const LOCK_PAUSE_MS = 1_000;
const LOCK_TRIES = 60;

/** What the database has of row-level security. */
interface Surroundings {
  login: string;
  /** The role of calls, named after the owner of the tables, so that installations in one cluster have their own. */
  role: string;
  schema: string;
  roleExists: boolean;
  maySet: boolean;
  isOwner: boolean;
  isSuperuser: boolean;
  serverVersion: number;
  /** Triggers and policies that are not the service's, as `name on table`. */
  foreign: string[];
}

/**
 * Prepares row-level security: the role that calls run under, its privileges, and the policies of the tables. What is
 * there already is left alone, so a later start only reads. Needs no migration, since roles belong to the cluster: a
 * dump that is restored elsewhere gets its role, and policies for it, from the next start. Returns the role. Throws a
 * RowSecurityProblem.
 */
export async function installRowSecurity(database: Database): Promise<string> {
  if (database.citus !== undefined) throw citusProblem();
  const found = await readSurroundings(database.pool, database);
  if (found.foreign.length > 0) throw foreignProblem(found);
  await prepareRole(database, found);
  const lacking = await findLacking(database.pool, database, found);
  if (lacking.length > 0) await complete(database, found, lacking);
  await prove(database, found);
  return found.role;
}

/** What an installed row-level security lacks, read without changing anything; undefined: nothing. */
export async function findRowSecurityProblem(
  queryable: Queryable,
  database: Database,
): Promise<RowSecurityProblem | undefined> {
  if (database.citus !== undefined) return citusProblem();
  const found = await readSurroundings(queryable, database);
  if (found.foreign.length > 0) return foreignProblem(found);
  if (!found.roleExists || !(found.isSuperuser || found.maySet)) return roleProblem(found);
  const lacking = await findLacking(queryable, database, found);
  if (lacking.length === 0) return undefined;
  return new RowSecurityProblem(
    "Privileges or policies are missing",
    "Start the service with the role that owns the tables.",
  );
}

/** Citus connects to its workers as the role that a statement runs under, and the role of calls may not log in. */
function citusProblem(): RowSecurityProblem {
  return new RowSecurityProblem(
    "The database is a Citus cluster, whose connections between nodes the role of calls may not open",
    "Set ROW_LEVEL_SECURITY to off.",
  );
}

function foreignProblem({ foreign }: Surroundings): RowSecurityProblem {
  return new RowSecurityProblem(
    `The tables have triggers or policies that are not the service's, which a role for calls might break: ${foreign.join(", ")}`,
    "Remove them, or set ROW_LEVEL_SECURITY to off.",
  );
}

/** The statements that make the role of calls and grant it to the login, without those that were run. */
function roleStatements({ role, login, serverVersion, ...found }: Surroundings): string[] {
  const name = pg.escapeIdentifier(role);
  // Without INHERIT, since the policies apply to whoever has the privileges of the role.
  const options = serverVersion >= 160_000 ? " with inherit false, set true" : "";
  return [
    ...(found.roleExists ? [] : [`create role ${name} nologin`]),
    ...(found.isSuperuser || found.maySet
      ? []
      : [`grant ${name} to ${pg.escapeIdentifier(login)}${options}`]),
  ];
}

function roleProblem(found: Surroundings, cause?: unknown): RowSecurityProblem {
  return new RowSecurityProblem(
    `The role ${found.login} may not make, or not use, the role ${found.role}, under which calls would run`,
    `Let an administrator run: ${roleStatements(found).join("; ")};`,
    cause,
  );
}

async function readSurroundings(queryable: Queryable, { tables }: Database): Promise<Surroundings> {
  const { rows } = await queryable.query<Surroundings>(
    `with owned as (select relowner, relnamespace, rolname from pg_class join pg_roles on pg_roles.oid = relowner
         where pg_class.oid = $1::regclass),
       named as (select *, case when octet_length(rolname) <= 57 then rolname else md5(rolname) end || '_calls' as calls from owned)
     select current_user::text as login, calls as role, relnamespace::regnamespace::text as schema,
       exists (select from pg_roles where rolname = calls) as "roleExists",
       (select rolsuper from pg_roles where rolname = current_user) as "isSuperuser",
       coalesce(pg_has_role(current_user, (select oid from pg_roles where rolname = calls),
         case when current_setting('server_version_num')::int >= 160000 then 'SET' else 'MEMBER' end), false) as "maySet",
       pg_has_role(relowner, 'usage') as "isOwner",
       current_setting('server_version_num')::int as "serverVersion",
       array(
         select format('%s on %s', tgname, tgrelid::regclass) from pg_trigger
         where tgrelid = any($2::regclass[]) and not tgisinternal and tgname not like 'pgquiver\\_%'
         union all
         select format('%s on %s', polname, polrelid::regclass) from pg_policy
         where polrelid = any($2::regclass[]) and polname not like 'pgquiver\\_%'
         union all
         select format('row-level security without policies on %s', oid::regclass) from pg_class
         where oid = any($2::regclass[]) and relrowsecurity and not exists (select from pg_policy where polrelid = pg_class.oid)) as foreign
     from named`,
    [
      tables.vectorStores,
      Object.keys(accessTo(tables))
        // It has a trigger of the service's own.
        .filter((key) => key !== "auditLog")
        .map((key) => tables[key as "files"]),
    ],
  );
  return rows[0] as Surroundings;
}

/** Makes the role of calls and grants it to the login, unless that was done. */
async function prepareRole({ pool }: Database, found: Surroundings): Promise<void> {
  for (const statement of roleStatements(found)) {
    try {
      await transaction(pool, (client) => client.query(statement));
    } catch (error) {
      // Another process, also one of another database of the cluster, may have made the role at the same time.
      const { rowCount } = await pool.query("select from pg_roles where rolname = $1", [found.role]);
      if (statement.startsWith("create") && rowCount === 1) continue;
      throw roleProblem(found, error);
    }
  }
}

/** What the tables lack of privileges and policies. */
async function findLacking(
  queryable: Queryable,
  { tables }: Database,
  { role, schema }: Surroundings,
): Promise<string[]> {
  const name = pg.escapeIdentifier(role);
  const access = Object.entries(accessTo(tables)).map(([key, { privileges, rows }]) => {
    const table = tables[key as "files"];
    const sql = rows && policyStatements(table, role, rows);
    return { table, privileges, sql, digest: sql && hash("md5", sql) };
  });
  const { rows: known } = await queryable.query<{ table: string; digest: string | null; may: boolean }>(
    `select name as table, has_table_privilege($1, name, 'select')
         and (not is_full or has_table_privilege($1, name, 'insert') and has_table_privilege($1, name, 'update')
           and has_table_privilege($1, name, 'delete')) as may,
       (select obj_description(pg_policy.oid, 'pg_policy') from pg_policy join pg_class on pg_class.oid = polrelid
        where polrelid = name::regclass and polname = 'pgquiver_calls' and relrowsecurity) as digest
     from unnest($2::text[], $3::bool[]) as wanted (name, is_full)`,
    [role, access.map(({ table }) => table), access.map(({ privileges }) => privileges === "all")],
  );
  const { rows: open } = await queryable.query<{ sql: string }>(
    `select format('grant usage on schema %s to ${name.replaceAll("'", "''")}', namespace) as sql
     from (select $2 union select extnamespace::regnamespace::text from pg_extension where extname = 'vector') as used (namespace)
     where not has_schema_privilege($1, used.namespace::regnamespace, 'usage')
     union all
     select format('grant usage on sequence %s to ${name.replaceAll("'", "''")}', sequence.oid::regclass)
     from pg_depend join pg_attrdef on pg_attrdef.oid = pg_depend.objid and classid = 'pg_attrdef'::regclass
       join pg_class as sequence on sequence.oid = refobjid and refclassid = 'pg_class'::regclass
     where adrelid = any($3::regclass[]) and case relkind when 'S' then not has_sequence_privilege($1, sequence.oid, 'usage') end
     union all
     select format('grant select, insert, update, delete on %I to ${name.replaceAll("'", "''")}', own_table)
     from ${tables.indexes} where to_regclass(quote_ident(own_table)) is not null
       and not has_table_privilege($1, quote_ident(own_table), 'insert')`,
    [role, schema, [tables.vectorStores, tables.embeddings]],
  );
  const lacking = open.map(({ sql }) => sql);
  for (const { table, privileges, sql, digest } of access) {
    const now = known.find((one) => one.table === table);
    if (privileges !== "none" && now?.may !== true)
      lacking.push(
        `grant ${privileges === "all" ? "select, insert, update, delete" : "select"} on ${table} to ${name}`,
      );
    if (sql !== undefined && now?.digest !== digest)
      lacking.push(`${sql}; comment on policy pgquiver_calls on ${table} is '${digest}'`);
  }
  return lacking;
}

/** Runs the statements, each in a transaction of its own, so that none holds the lock of more than one table. */
async function complete(
  database: Database,
  { login, isOwner }: Surroundings,
  lacking: string[],
): Promise<void> {
  const remedy =
    "Start the service once with the role that owns the tables, or set ROW_LEVEL_SECURITY to off.";
  if (!isOwner)
    throw new RowSecurityProblem(
      `The role ${login} does not own the tables, which have no policies yet`,
      remedy,
    );
  for (const sql of lacking) {
    for (let attempt = 1; ; attempt++) {
      try {
        await transaction(database.pool, async (client) => {
          await client.query(`set local lock_timeout = ${LOCK_TRY_MS}`);
          // Two GRANTs on one table at the same time fail.
          await lockExclusive(client, database.tables, "pgquiver row security");
          await client.query(sql);
        });
        break;
      } catch (error) {
        if (isInsufficientPrivilege(error))
          throw new RowSecurityProblem(
            `The role ${login} may not do what row-level security needs`,
            `${sql};`,
            error,
          );
        if (!isLockTimeout(error) || attempt === LOCK_TRIES) throw error;
        await delay(LOCK_PAUSE_MS);
      }
    }
  }
}

/** Reads under the role, as calls do, which shows nothing for a project without a name. */
async function prove({ pool, tables }: Database, { role }: Surroundings): Promise<void> {
  const read = async (client: Client) => {
    const { rowCount } = await client.query(`select from ${tables.vectorStores} limit 1`);
    await client.query(`select from only ${tables.embeddings} limit 0`);
    if (rowCount === 0) return;
    throw new RowSecurityProblem(
      `Postgres does not apply the policies to the role ${role}`,
      `Take SUPERUSER and BYPASSRLS from it: alter role ${pg.escapeIdentifier(role)} nosuperuser nobypassrls;`,
    );
  };
  const restricted = {
    connect: async () => restrictClient(await pool.connect(), { role, project: "" }),
  };
  try {
    await readTransaction(restricted as pg.Pool, read);
  } catch (error) {
    if (!isInsufficientPrivilege(error)) throw error;
    throw new RowSecurityProblem(`The role ${role} lacks a privilege`, (error as Error).message, error);
  }
}
