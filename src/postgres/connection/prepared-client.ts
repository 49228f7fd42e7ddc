import type pg from "pg";
import { RestrictableClient } from "../row-security/client.ts";
import { tracedQuery } from "./traced-query.ts";

/**
 * Maximum number of named prepared statements per connection. Measured: one of a search, with its plan, takes
 * 100 KB of the backend's memory.
 */
export const PREPARED_MAX = 64;

/**
 * A client that keeps at most `PREPARED_MAX` named statements prepared (an LRU cache), because node-postgres
 * itself keeps each until the connection ends, and searches have a statement per store that has its own table.
 */
export class PreparedClient extends RestrictableClient {
  /** The names in order of their last use. */
  readonly #names = new Set<string>();

  // As in unnamed-client.ts: the arguments are passed on unchanged.
  override query(...parameters: never[]): never {
    const [first, ...rest] = parameters as unknown[];
    const name = nameOf(first);
    // Postgres plans a statement again whenever the role changes under which its plan was made.
    const own = this.restriction === undefined ? name : `${name}_restricted`;
    if (name !== undefined) this.#use(own as string);
    const query = name === undefined ? first : { ...(first as pg.QueryConfig), name: own };
    return tracedQuery(this, [query, ...rest], (all) => super.query(...(all as never[]))) as never;
  }

  #use(name: string): void {
    this.#names.delete(name);
    this.#names.add(name);
    const [oldest] = this.#names;
    if (this.#names.size <= PREPARED_MAX || oldest === undefined) return;
    this.#names.delete(oldest);
    const { parsedStatements } = this.connection as unknown as { parsedStatements: Record<string, string> };
    if (parsedStatements[oldest] === undefined) return;
    delete parsedStatements[oldest];
    // Close needs no round trip: its answer comes with that of the next statement. To close a statement that
    // does not exist is no error.
    this.connection.close({ type: "S", name: oldest }, true);
  }
}

function nameOf(query: unknown): string | undefined {
  const isConfig = typeof query === "object" && query !== null && !("submit" in query) && "name" in query;
  return isConfig && typeof query.name === "string" ? query.name : undefined;
}
