import { findingsOr, ok, type Finding, type Subject } from "./finding.ts";
import { numberOf, readRole, readSettings } from "./settings.ts";

/**
 * Connections of a process besides its pool: two for health checks and leases, one for the index worker, one
 * for an index build.
 */
const OTHER_CONNECTIONS = 4;

/**
 * Checks the connection limits of server, role and database against the connections that the service may
 * open.
 */
export async function checkConnections(subject: Subject): Promise<Finding[]> {
  const { client, database } = subject;
  const server = await readSettings(subject, [
    "max_connections",
    "superuser_reserved_connections",
    "reserved_connections",
  ]);
  const { rows } = await client.query<{ used: number; role_max: number; database_max: number }>(
    `select (select sum(numbackends)::int from pg_stat_database) as used,
       (select rolconnlimit from pg_roles where rolname = current_user) as role_max,
       (select datconnlimit from pg_database where datname = current_database()) as database_max`,
  );
  const [limits] = rows as [{ used: number; role_max: number; database_max: number }];
  const reserved =
    numberOf(server, "superuser_reserved_connections") + (numberOf(server, "reserved_connections") || 0);
  const allowed = [numberOf(server, "max_connections") - reserved, limits.role_max, limits.database_max];
  const max = Math.min(...allowed.filter((limit) => limit >= 0));
  const needed = (database.pool.options.max ?? 1) + OTHER_CONNECTIONS;
  const numbers = `The server takes ${max} connections of this role and has ${limits.used}; a process of the service opens up to ${needed}`;
  if (max >= 2 * needed) return ok(`${numbers}: ${Math.floor(max / needed)} processes fit.`);
  return [
    {
      severity: max < needed ? "warning" : "notice",
      message: `${numbers}: ${max < needed ? "calls can fail because no connection is free" : "a second process does not fit, not even during a rolling restart"}.`,
      remedy: `Lower DATABASE_POOL_MAX, put PgBouncer in between, or: alter system set max_connections = ${4 * needed + reserved}; and a restart of the server.`,
    },
  ];
}

/**
 * Checks that sessions have the timeouts that the service requests at start-up; a PgBouncer in between drops
 * them.
 */
export async function checkSessions(subject: Subject): Promise<Finding[]> {
  const wanted = {
    statement_timeout: ["60s", "a statement may run for ever"],
    idle_in_transaction_session_timeout: ["60s", "a transaction left open holds its locks for ever"],
    client_connection_check_interval: ["500ms", "the statement of a cancelled call runs to its end"],
  } as const;
  const settings = await readSettings(subject, Object.keys(wanted));
  const role = await readRole(subject);
  const findings = Object.entries(wanted).flatMap(([name, [value, consequence]]): Finding[] => {
    if (settings.get(name)?.value !== "0") return [];
    const remedy = `alter role ${role} set ${name} = '${value}';`;
    return [{ severity: "notice", message: `${name} is 0: ${consequence}.`, remedy }];
  });
  return findingsOr(findings, "Sessions have their time limits.");
}
