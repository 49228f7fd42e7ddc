import type pg from "pg";
import type { Database } from "../postgres/database.ts";

/** The resources of one step. */
export interface WorkContext {
  database: Database;
  /**
   * A pool of one connection, whose session holds the worker's advisory lock. Only `connect` is offered:
   * `Pool.query` closes the connection when a statement fails, and the lock would be released with the
   * session.
   */
  pool: Pick<pg.Pool, "connect">;
  signal: AbortSignal;
}
