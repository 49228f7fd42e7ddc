import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import { lockKey } from "./advisory.ts";
import type { Database } from "./database.ts";
import { BACKGROUND_LOCK_TIMEOUT } from "./pool.ts";

/** Work in the background, of which one process at a time does a kind. */
export interface Exclusive {
  /** Aborts the work and waits until it has ended. */
  stop: () => Promise<void>;
}

/** How the work is run. */
export interface ExclusiveOptions {
  /** How long to wait after the work has ended or another process was found at it; default 5 s. */
  retryMs?: number;
  /** Gets what the work threw, and why it cannot be done at all. */
  report: (error: unknown) => void;
}

/**
 * Runs `work` in one process at a time over all that use the database under the same table names: a lock of the
 * session, which ends with its connection, keeps the others out. The work gets a pool of that one connection, so that
 * what it does through it ends with the lock, without a limit to a statement's time, but with one of two seconds to its wait
 * for a lock: one who keeps it waiting shall not keep all the others waiting too. Its signal aborts when the
 * connection breaks or the work is stopped. When `work` returns or throws, it is begun again, by whichever process is
 * the first. On the embedded database, which has one process, it gets the database's own pool; there each
 * transaction keeps every call waiting.
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
          `The ${name} are off: PgBouncer in transaction mode keeps no session, and so no lock of one. Set DATABASE_DIRECT_URL to the server itself.`,
        ),
      );
      return;
    }
    while (!stopped.signal.aborted) {
      try {
        await runOnce(database, name, work, stopped.signal);
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

async function runOnce(
  database: Database,
  name: string,
  work: (pool: pg.Pool, signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  if (database.kind === "embedded") return work(database.pool, signal);
  const values = [`pgquiver ${name}`];
  const key = lockKey(database.tables, "$1::text");
  // Asked on a connection of the service's pool, so that those who wait for their turn hold none.
  const free = await database.pool.query<{ free: boolean }>(
    `select pg_try_advisory_xact_lock(${key}) as free`,
    values,
  );
  if (free.rows[0]?.free !== true) return;
  await using session = openSession(database);
  // Through a pooler that drops settings the lock would stay with a backend that others get: none is taken there.
  const taken = await session.pool.query<{ taken: boolean | null }>(
    `select case when current_setting('lock_timeout') = '${BACKGROUND_LOCK_TIMEOUT}' then pg_try_advisory_lock(${key}) end as taken`,
    values,
  );
  const isTaken = taken.rows[0]?.taken;
  if (isTaken === null) {
    throw new Error(
      `The ${name} are off: the connection for work in the background lost its settings, so a pooler such as PgBouncer is in between. Set DATABASE_DIRECT_URL to the server itself, and pgbouncer=true in DATABASE_URL.`,
    );
  }
  if (isTaken === true) await work(session.pool, AbortSignal.any([signal, session.lost]));
}

/** How long the server may take to close a connection that has been ended; a dead network shall not keep a process. */
const CLOSE_TIMEOUT_MS = 1_000;

/** One connection, and no second one after it. */
interface Session extends AsyncDisposable {
  pool: pg.Pool;
  /** Aborts when the connection is gone. */
  lost: AbortSignal;
}

/** A connection beside the service's own, without a limit to a statement's time; first used is first made. */
export function openSession({ direct, pool: own, kind }: Database): Session {
  const lost = new AbortController();
  if (kind === "embedded") return { pool: own, lost: lost.signal, [Symbol.asyncDispose]: async () => {} };
  const pool = new pg.Pool({ ...direct, max: 1, idleTimeoutMillis: 0 });
  let ended: Promise<void> | undefined;
  let closed = Promise.resolve();
  const end = () => (ended ??= pool.end());
  // As in pool.ts: without listeners a broken connection would end the process.
  pool.on("error", () => {});
  pool.on("connect", (client) => {
    client.on("error", () => {});
    closed = new Promise((resolve) => client.once("end", () => resolve()));
  });
  pool.on("remove", () => {
    lost.abort(new Error("The connection for work in the background was lost."));
    void end();
  });
  const dispose = async () => {
    await end();
    // The pool does not wait for the server, which holds the session's locks until it has closed the connection.
    await Promise.race([closed, delay(CLOSE_TIMEOUT_MS, undefined, { ref: false })]);
  };
  return { pool, lost: lost.signal, [Symbol.asyncDispose]: dispose };
}
