import type pg from "pg";
import { ExtendedQuery } from "./extended-query.ts";

/** Values of Postgres settings by name. */
export type Settings = Record<string, string | number>;

/** What node-postgres knows of a connection's named statements, which its types leave out. */
interface Names {
  parsedStatements: Record<string, string>;
  submittedNamedStatements: Record<string, string>;
}

/**
 * A statement that runs under settings of its own, in one round trip: the messages of `select set_config(…)`
 * and those of the statement are sent before a single Sync, so that both are one transaction, at whose end the
 * settings are reset. A BEGIN, SET LOCAL, statement and COMMIT would take four. Behind a PgBouncer one backend
 * gets all of the messages.
 *
 * With `keepsNames`, the `select set_config(…)` is prepared once per connection. Behind a PgBouncer nothing has a name.
 */
export class QueryWithSettings extends ExtendedQuery {
  #settings: Settings;
  readonly #name: string | undefined;
  readonly #keepsNames: boolean;
  #areSet = false;

  constructor(statement: pg.QueryConfig, settings: Settings, keepsNames = false) {
    super({ ...statement, queryMode: "extended" });
    this.#name = statement.name;
    this.#settings = settings;
    this.#keepsNames = keepsNames;
  }

  /** `statement_timeout` of the statement in milliseconds, for the watch of silent connections. */
  get statementTimeoutMs(): number | undefined {
    const timeout = this.#settings["statement_timeout"];
    return timeout === undefined ? undefined : Number(timeout);
  }

  /** Adds settings, which are set first. */
  restrict(settings: Settings): void {
    this.#settings = { ...settings, ...this.#settings };
  }

  override submit(connection: pg.Connection): Error | null {
    const entries = Object.entries(this.#settings);
    const calls = entries.map((_, index) => `set_config($${2 * index + 1}, $${2 * index + 2}, true)`);
    const name = this.#keepsNames ? `set_${entries.length}` : "";
    const { parsedStatements } = connection as unknown as Names;
    // One write for all messages.
    connection.stream.cork();
    try {
      if (name === "" || parsedStatements[name] === undefined) {
        const text = `select ${calls.join(", ")}`;
        connection.parse({ name, text, types: [] }, true);
        if (name !== "") parsedStatements[name] = text;
      }
      connection.bind({ statement: name, values: entries.flat().map(String) }, true);
      // Not described: it has one row, which is ignored below.
      connection.execute({}, true);
      return super.submit(connection);
    } finally {
      // node-postgres takes the next answer to a Parse for that to the active query's, by its name: the first one is
      // that to the settings.
      this.name = undefined;
      connection.stream.uncork();
    }
  }

  override handleDataRow(message: unknown): void {
    if (this.#areSet) super.handleDataRow(message);
  }

  override handleCommandComplete(message: unknown, connection: pg.Connection): void {
    if (this.#areSet) return super.handleCommandComplete(message, connection);
    this.#areSet = true;
    this.name = this.#name;
  }

  override handleError(error: Error, connection: pg.Connection): void {
    if (this.#name !== undefined)
      delete (connection as unknown as Names).submittedNamedStatements[this.#name];
    super.handleError(error, connection);
  }
}

/** Runs a statement, outside of a transaction block, under settings that apply to it alone. */
export function queryWithSettings<R extends pg.QueryResultRow>(
  client: { query(query: pg.Submittable): unknown },
  statement: pg.QueryConfig,
  settings: Settings,
  keepsNames = false,
): Promise<pg.QueryResult<R>> {
  const query = new QueryWithSettings(statement, settings, keepsNames);
  return new Promise((resolve, reject) => {
    query.callback = (error, result) =>
      error === null ? resolve(result as pg.QueryResult<R>) : reject(error);
    client.query(query as unknown as pg.Submittable);
  });
}
