import type { Subject } from "./finding.ts";

/** Settings at the values with which a session of this service starts, by name. */
export type ServerSettings = Map<string, { value: string; unit: string | null }>;

/** Reads settings; a setting unknown to this version of Postgres is missing from the result. */
export async function readSettings(
  { client }: Pick<Subject, "client">,
  names: readonly string[],
): Promise<ServerSettings> {
  // reset_val, not setting: `set local`, such as the statement timeout of a check, does not change reset_val.
  const { rows } = await client.query<{ name: string; value: string; unit: string | null }>(
    "select name, reset_val as value, unit from pg_settings where name = any($1)",
    [names],
  );
  return new Map(rows.map(({ name, value, unit }) => [name, { value, unit }]));
}

/** Bytes per unit of pg_settings.unit. */
const UNIT_BYTES: Record<string, number> = { B: 1, kB: 1024, "8kB": 8192, MB: 1024 ** 2, GB: 1024 ** 3 };

/** A setting as a number, sizes converted to bytes; NaN when the setting is missing. */
export function numberOf(settings: ServerSettings, name: string): number {
  const setting = settings.get(name);
  return setting === undefined ? NaN : Number(setting.value) * (UNIT_BYTES[setting.unit ?? ""] ?? 1);
}

/** SQL that changes a server-wide setting and reloads the configuration. `value` is inserted as it is. */
export function alterSystem(name: string, value: string): string {
  return `alter system set ${name} = ${value}; select pg_reload_conf();`;
}

/** The quoted name of the service's role. */
export async function readRole({ client }: Pick<Subject, "client">): Promise<string> {
  const { rows } = await client.query<{ role: string }>("select quote_ident(current_user) as role");
  return String(rows[0]?.role);
}
