import type pg from "pg";
import type { Client } from "./database.ts";
import { ExtendedQuery } from "./extended-query.ts";

/** Values of Postgres settings by name. */
export type Settings = Record<string, string | number>;

/**
 * A statement that runs under settings of its own, in one round trip: the messages of `select set_config(…)`
 * and those of the statement are sent before a single Sync, so that both are one transaction, at whose end the
 * settings are reset. A BEGIN, SET LOCAL, statement and COMMIT would take four. Behind a PgBouncer one backend
 * gets all of the messages.
 *
 * The statement has no name: node-postgres would take the answer to the first Parse for that to the second.
 */
export class QueryWithSettings extends ExtendedQuery {
  readonly #settings: Settings;
  #areSet = false;

  constructor(statement: { text: string; values: unknown[] }, settings: Settings) {
    super({ text: statement.text, values: statement.values, queryMode: "extended" });
    this.#settings = settings;
  }

  /** `statement_timeout` of the statement in milliseconds, for the watch of silent connections. */
  get statementTimeoutMs(): number | undefined {
    const timeout = this.#settings["statement_timeout"];
    return timeout === undefined ? undefined : Number(timeout);
  }

  override submit(connection: pg.Connection): Error | null {
    const entries = Object.entries(this.#settings);
    const calls = entries.map((_, index) => `set_config($${2 * index + 1}, $${2 * index + 2}, true)`);
    const values = entries.flat().map(String);
    // One write for all messages.
    connection.stream.cork();
    try {
      connection.parse({ name: "", text: `select ${calls.join(", ")}`, types: [] }, true);
      connection.bind({ values }, true);
      // Not described: it has one row, which is ignored below.
      connection.execute({}, true);
      return super.submit(connection);
    } finally {
      connection.stream.uncork();
    }
  }

  override handleDataRow(message: unknown): void {
    if (this.#areSet) super.handleDataRow(message);
  }

  override handleCommandComplete(message: unknown, connection: pg.Connection): void {
    if (this.#areSet) super.handleCommandComplete(message, connection);
    this.#areSet = true;
  }
}

/** Runs a statement, outside of a transaction block, under settings that apply to it alone. */
export function queryWithSettings<R extends pg.QueryResultRow>(
  client: Client,
  statement: { text: string; values: unknown[] },
  settings: Settings,
): Promise<pg.QueryResult<R>> {
  const query = new QueryWithSettings(statement, settings);
  return new Promise((resolve, reject) => {
    query.callback = (error, result) =>
      error === null ? resolve(result as pg.QueryResult<R>) : reject(error);
    client.query(query);
  });
}
