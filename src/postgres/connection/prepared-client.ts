import type pg from "pg";
import { RestrictableClient } from "../row-security/client.ts";
import { tracedQuery } from "./traced-query.ts";

/**
 * Maximum number of named statements that a connection remembers, prepared or not yet. Measured: one of a search that is
 * prepared, with its plan, takes 100 KB of the backend's memory.
 */
export const PREPARED_MAX = 64;

/**
 * A client that keeps at most `PREPARED_MAX` named statements prepared (an LRU cache), because node-postgres
 * itself keeps each until the connection ends, and searches have a statement per store that has its own table, and per
 * shape of a filter. A statement is prepared when it comes a second time: for a single run, preparing and closing it takes
 * a search 0.2 ms longer than to send it without a name.
 */
export class PreparedClient extends RestrictableClient {
  /** The names in order of their last use. */
  readonly #names = new Set<string>();

  // As in unnamed-client.ts: the arguments are passed on unchanged.
  override query(...parameters: never[]): never {
    const [first, ...rest] = parameters as unknown[];
    const name = nameOf(first);
    const query = name === undefined ? first : { ...(first as pg.QueryConfig), name: this.#use(name) };
    return tracedQuery(this, [query, ...rest], (all) => super.query(...(all as never[]))) as never;
  }

  /** Takes note of a use of a statement. Returns the name to prepare it under; undefined: it comes for the first time. */
  #use(name: string): string | undefined {
    // Postgres plans a statement again whenever the role changes under which its plan was made.
    const own = this.restriction === undefined ? name : `${name}_restricted`;
    const isKnown = this.#names.delete(own);
    this.#names.add(own);
    if (this.#names.size > PREPARED_MAX) this.#close();
    return isKnown ? own : undefined;
  }

  /** Forgets the statement that was used least recently, and closes it where it is prepared. */
  #close(): void {
    const [oldest] = this.#names;
    if (oldest === undefined) return;
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
