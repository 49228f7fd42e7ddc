import { compareMigrations } from "../postgres/migrations/migrate.ts";
import { findingsOr, ok, type Finding, type Subject } from "./finding.ts";
import { tableNames } from "../postgres/tables.ts";

/**
 * Checks that no migration is pending, that this version can work with the tables, and that no migration was
 * edited.
 */
export async function checkMigrations({ client, database }: Subject): Promise<Finding[]> {
  try {
    const { pending, newer } = await compareMigrations(client, database);
    if (newer !== undefined) {
      const message = `A newer version has migrated the database (${newer}); this version can work beside it.`;
      return [
        { severity: "notice", message, remedy: "End the upgrade: start the newer version everywhere." },
      ];
    }
    if (pending.length === 0) return ok("The tables are up to date.");
    const names = pending.map(({ name }) => name).join(", ");
    const message = `The database lacks ${pending.length} migrations: ${names}.`;
    return [{ severity: "error", message, remedy: "Start the service, which applies them." }];
  } catch (error) {
    return [{ severity: "error", message: (error as Error).message }];
  }
}

/**
 * Checks the privileges of the service's role: on its tables (error), and for upgrades and own tables
 * (warning).
 */
export async function checkPrivileges({ client, database }: Subject): Promise<Finding[]> {
  const { rows } = await client.query<{ message: string; remedy: string; fatal: boolean }>(
    `select format('The role may not create tables in the schema %I: large stores get no index of their own, and upgrades fail.', current_schema()) as message,
       format('grant create on schema %I to %I;', current_schema(), current_user) as remedy, false as fatal
     where not has_schema_privilege(current_schema(), 'create')
     union all
     select format('The role does not own the table %s: upgrades fail, and large stores get no own table.', oid::regclass),
       format('alter table %s owner to %I;', oid::regclass, current_user), false
     from pg_class
     where relnamespace = quote_ident(current_schema())::regnamespace and relname = any($1)
       and not pg_has_role(relowner, 'usage')
     union all
     select format('The role lacks the privilege to %s in the table %s.', lower(privilege), oid::regclass),
       format('grant %s on %s to %I;', lower(privilege), oid::regclass, current_user), true
     from pg_class, unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) as privilege
     where relnamespace = quote_ident(current_schema())::regnamespace and relname = any($1)
       and relkind = 'r' and not has_table_privilege(oid, privilege)
     union all
     select 'The schema of the database''s URL does not exist, or the role may not use it.',
       'Start the service with a role that may create it.', true
     where current_schema() is null`,
    [tableNames(database.tables)],
  );
  const findings = rows.map(({ message, remedy, fatal }): Finding => ({
    severity: fatal ? "error" : "warning",
    message,
    remedy,
  }));
  return findingsOr(findings, "The role has all privileges that the service needs.");
}
