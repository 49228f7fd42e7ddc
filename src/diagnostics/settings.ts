import type { Subject } from "./finding.ts";

/** The settings of the server as a session of this service starts with them, by name. */
export type ServerSettings = Map<string, { value: string; unit: string | null }>;

/** Reads settings; one this version of Postgres does not have is missing. */
export async function readSettings(
  { client }: Pick<Subject, "client">,
  names: readonly string[],
): Promise<ServerSettings> {
  // What `set local` changed, as the time limit of a check does, is not in reset_val.
  const { rows } = await client.query<{ name: string; value: string; unit: string | null }>(
    "select name, reset_val as value, unit from pg_settings where name = any($1)",
    [names],
  );
  return new Map(rows.map(({ name, value, unit }) => [name, { value, unit }]));
}

/** Bytes of the units Postgres gives sizes in. */
const UNIT_BYTES: Record<string, number> = { B: 1, kB: 1024, "8kB": 8192, MB: 1024 ** 2, GB: 1024 ** 3 };

/** A setting as a number, sizes in bytes; NaN when it is missing. */
export function numberOf(settings: ServerSettings, name: string): number {
  const setting = settings.get(name);
  return setting === undefined ? NaN : Number(setting.value) * (UNIT_BYTES[setting.unit ?? ""] ?? 1);
}

/** The SQL that changes a setting of the whole server without a restart. */
export function alterSystem(name: string, value: string): string {
  return `alter system set ${name} = ${value}; select pg_reload_conf();`;
}

/** The name of the role that the service connects as, quoted. */
export async function readRole({ client }: Pick<Subject, "client">): Promise<string> {
  const { rows } = await client.query<{ role: string }>("select quote_ident(current_user) as role");
  return String(rows[0]?.role);
}
