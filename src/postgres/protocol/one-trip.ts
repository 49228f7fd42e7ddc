import type pg from "pg";
import type { Client } from "../database.ts";
import { ExtendedQuery } from "./extended-query.ts";
import type { Settings } from "./with-settings.ts";

/** A statement with its parameters, which are text or binary. */
export interface Statement {
  text: string;
  values: readonly (string | Buffer | null)[];
}

/**
 * Several statements whose messages are sent before a single Sync: Postgres runs one after the other without a round
 * trip in between, and none after one that fails. The result is that of the last.
 */
class PipelinedQuery extends ExtendedQuery {
  #earlier: readonly Statement[];
  #completed = 0;

  constructor(earlier: readonly Statement[], last: Statement) {
    super({ text: last.text, values: [...last.values], queryMode: "extended" });
    this.#earlier = earlier;
  }

  get earlierTexts(): string[] {
    return this.#earlier.map(({ text }) => text);
  }

  /** Adds settings for the transaction: after BEGIN, where the statements begin with that. */
  restrict(settings: Settings): void {
    const entries = Object.entries(settings);
    const calls = entries.map((_, index) => `set_config($${2 * index + 1}, $${2 * index + 2}, true)`);
    const set = { text: `select ${calls.join(", ")}`, values: entries.flat().map(String) };
    const [first, ...rest] = this.#earlier;
    this.#earlier = first?.text === "begin" ? [first, set, ...rest] : [set, ...this.#earlier];
  }

  override submit(connection: pg.Connection): Error | null {
    // One write for all messages.
    connection.stream.cork();
    try {
      for (const { text, values } of this.#earlier) {
        connection.parse({ name: "", text, types: [] }, true);
        connection.bind({ values: [...values] }, true);
        // Not described: what rows it has are ignored below.
        connection.execute({}, true);
      }
      return super.submit(connection);
    } finally {
      connection.stream.uncork();
    }
  }

  override handleDataRow(message: unknown): void {
    if (this.#completed === this.#earlier.length) super.handleDataRow(message);
  }

  override handleCommandComplete(message: unknown, connection: pg.Connection): void {
    if (this.#completed === this.#earlier.length) super.handleCommandComplete(message, connection);
    else this.#completed++;
  }
}

/** Runs statements in one round trip; resolves to the result of the last, or rejects with the error of one. */
export function queryInOneTrip(
  client: Client,
  earlier: readonly Statement[],
  last: Statement,
): Promise<pg.QueryResult> {
  const query = new PipelinedQuery(earlier, last);
  return new Promise((resolve, reject) => {
    query.callback = (error, result) => (error === null ? resolve(result) : reject(error));
    client.query(query);
  });
}
