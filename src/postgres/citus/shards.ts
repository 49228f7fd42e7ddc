import type { Client, Queryable } from "../database.ts";

/** How long a process goes on with the number of shards that it has read. */
const KNOWN_MS = 60_000;
/** Tables whose number of shards a process knows; beyond it forgets the one that it has known for longest. */
const TABLES_MAX = 10_000;

/** Which own tables have been split into several shards. */
export class SplitTables {
  readonly #known = new Map<string, { isSplit: boolean; until: number }>();

  /** Whether a table, by its name that is not quoted, has several shards; up to a minute old. */
  async has(queryable: Queryable, table: string): Promise<boolean> {
    const now = performance.now();
    const known = this.#known.get(table);
    if (known !== undefined && known.until > now) return known.isSplit;
    const { rows } = await queryable.query<{ isSplit: boolean }>(
      `select count(*) > 1 as "isSplit" from pg_dist_shard where logicalrelid = to_regclass(quote_ident($1))`,
      [table],
    );
    const isSplit = rows[0]?.isSplit === true;
    this.#known.delete(table);
    this.#known.set(table, { isSplit, until: now + KNOWN_MS });
    const [oldest] = this.#known.keys();
    if (this.#known.size > TABLES_MAX && oldest !== undefined) this.#known.delete(oldest);
    return isSplit;
  }
}

/** Runs reads under settings that reach every node: of Citus's commands only SET LOCAL in a transaction block does. */
export async function withSettingsOnNodes<T>(
  client: Client,
  settings: Record<string, number>,
  read: () => Promise<T>,
): Promise<T> {
  const set = Object.entries(settings).map(([name, value]) => `set local ${name} = ${value}`);
  await client.query("begin");
  try {
    // One by one: Citus sends the whole text that a SET LOCAL is part of.
    for (const command of ["set local citus.propagate_set_commands = 'local'", ...set])
      await client.query(command);
    const result = await read();
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback").catch(() => {});
    throw error;
  }
}
