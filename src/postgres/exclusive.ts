import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import { lockKey } from "./advisory.ts";
import { BoundedPool } from "./connection/bounded-pool.ts";
import type { Database } from "./database.ts";
import { BACKGROUND_LOCK_TIMEOUT } from "./connection/pool.ts";
import { guardWrites } from "./transaction.ts";

/** Background work that only one process at a time performs. */
export interface Exclusive {
  /** Aborts the work, and resolves when it has ended. */
  stop: () => Promise<void>;
}

/** Options of `runExclusively`. */
export interface ExclusiveOptions {
  /** Time between attempts: after the work has ended, or when another process holds the lock; default 5 s. */
  retryMs?: number;
  /** Called with each error of the work, and with the reason if the work cannot run at all. */
  report: (error: unknown) => void;
}

/**
 * Leader election: runs `work` in only one of the processes that use the same tables. The leader holds a
 * session-level advisory lock, which Postgres releases when the connection ends. `work` gets a pool with that
 * single connection, so no statement of the work can outlive the lock. The connection has no
 * statement_timeout, and a lock_timeout of 2 s (see pool.ts). The signal aborts when the connection breaks or
 * `stop` is called. After `work` returns or throws, any process may become the leader.
 *
 * The embedded database belongs to one process: there `work` gets the database's own pool without a lock, and
 * each of its transactions blocks all calls.
 */
export function runExclusively(
  database: Database,
  name: string,
  work: (pool: pg.Pool, signal: AbortSignal) => Promise<void>,
  { retryMs = 5_000, report }: ExclusiveOptions,
): Exclusive {
  const stopped = new AbortController();
  const run = async () => {
    if (database.kind === "postgres" && database.direct === undefined) {
      report(
        new Error(
          `The ${name} are off: they need a session-level advisory lock, which PgBouncer in transaction mode does not support. Set DATABASE_DIRECT_URL to the Postgres server itself.`,
        ),
      );
      return;
    }
    while (!stopped.signal.aborted) {
      try {
        await runIfFree(database, name, work, stopped.signal);
      } catch (error) {
        if (!stopped.signal.aborted) report(error);
      }
      await delay(retryMs, undefined, { signal: stopped.signal }).catch(() => {});
    }
  };
  const ended = run();
  return {
    stop: async () => {
      stopped.abort();
      await ended;
    },
  };
}

/**
 * Runs `work` once as `runExclusively` does, and resolves when it has ended; at once when another process does work of this
 * name. Rejects with its error.
 */
export async function runIfFree(
  database: Database,
  name: string,
  work: (pool: pg.Pool, signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  if (database.kind === "embedded") return work(database.pool, signal);
  const values = [`pgquiver ${name}`];
  const key = lockKey(database.tables, "$1::text");
  // Probe with a transaction-level lock on the service's pool, so that processes that are not the leader do
  // not hold a background connection.
  const free = await database.pool.query<{ free: boolean }>(
    `select pg_try_advisory_xact_lock(${key}) as free`,
    values,
  );
  if (free.rows[0]?.free !== true) return;
  await using session = openSession(database);
  // If the session setting is missing, a pooler is in between, which may assign the backend to other clients:
  // then the session-level lock must not be taken.
  const taken = await session.pool.query<{ taken: boolean | null }>(
    `select case when current_setting('lock_timeout') = '${BACKGROUND_LOCK_TIMEOUT}' then pg_try_advisory_lock(${key}) end as taken`,
    values,
  );
  const isTaken = taken.rows[0]?.taken;
  if (isTaken === null) {
    throw new Error(
      `The ${name} are off: the background connection lost its session settings, so a connection pooler such as PgBouncer is in between. Set DATABASE_DIRECT_URL to the Postgres server itself, and pgbouncer=true in DATABASE_URL.`,
    );
  }
  if (isTaken === true) await work(session.pool, AbortSignal.any([signal, session.lost]));
}

/**
 * Maximum wait for the server to close the connection, so that a dead network does not block the shutdown.
 */
const CLOSE_TIMEOUT_MS = 1_000;

/** A pool of one connection that does not reconnect. */
interface Session extends AsyncDisposable {
  pool: pg.Pool;
  /** Aborts when the connection is lost. */
  lost: AbortSignal;
}

/**
 * Opens a background connection, without a statement_timeout, outside of the service's pool. Connects lazily.
 * With the embedded database: the database's own pool.
 */
export function openSession({ direct, pool: own, kind, tables }: Database): Session {
  const lost = new AbortController();
  if (kind === "embedded") return { pool: own, lost: lost.signal, [Symbol.asyncDispose]: async () => {} };
  if (direct === undefined)
    throw new Error(
      "A background connection needs DATABASE_DIRECT_URL, since DATABASE_URL leads to a PgBouncer.",
    );
  const silence = { limitMs: undefined, connectMs: direct.connectionTimeoutMillis ?? 0 };
  const pool = guardWrites(new BoundedPool({ ...direct, max: 1, idleTimeoutMillis: 0 }, silence), tables);
  let ended: Promise<void> | undefined;
  let closed = Promise.resolve();
  const end = () => (ended ??= pool.end());
  pool.on("connect", (client) => {
    closed = new Promise((resolve) => client.once("end", () => resolve()));
  });
  pool.on("remove", () => {
    lost.abort(new Error("The background connection was lost."));
    void end();
  });
  const dispose = async () => {
    await end();
    // `pool.end` does not wait for the server, which releases the session's locks only when it closes the
    // connection.
    await Promise.race([closed, delay(CLOSE_TIMEOUT_MS, undefined, { ref: false })]);
  };
  return { pool, lost: lost.signal, [Symbol.asyncDispose]: dispose };
}
