import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import { describeBlocker, endBlocker, findLockHolders } from "../blockers.ts";
import { isLockTimeout } from "../errors.ts";
import { tableNames, type Tables } from "../tables.ts";
import { savepoint } from "../transaction.ts";

/** How long a migration waits for its locks. */
export interface LockWait {
  /**
   * Lock timeout of one try. ALTER TABLE and LOCK TABLE wait for ACCESS EXCLUSIVE, and while they do, every
   * new statement on the table queues behind them.
   */
  tryMs: number;
  /** Pauses between tries, in which that queue drains; the last one repeats. */
  pausesMs: readonly number[];
  /** All tries together; the migration fails after that. */
  totalMs: number;
}

const LOCK_WAIT: LockWait = { tryMs: 1_000, pausesMs: [500, 1_000, 2_000, 4_000], totalMs: 120_000 };

/**
 * Runs the SQL of a migration inside a transaction. A try that hits the lock timeout is rolled back to a
 * savepoint, which releases what it had locked, and is repeated after a pause, in which other applications go
 * on. `report` gets a line that names the holders of the locks, whenever they change, and each WARNING of the
 * SQL. Throws an Error that names the holders when the time is up.
 */
export async function applyMigration(
  client: pg.PoolClient,
  tables: Tables,
  { name, sql }: { name: string; sql: string },
  report: (message: string) => void,
  { tryMs, pausesMs, totalMs }: LockWait = LOCK_WAIT,
): Promise<void> {
  const until = performance.now() + totalMs;
  let warnings: string[] = [];
  const listen = ({ severity, message }: { severity?: string | undefined; message?: string | undefined }) => {
    if (severity === "WARNING" && message !== undefined) warnings.push(message);
  };
  client.on("notice", listen);
  try {
    await client.query(`set local lock_timeout = ${tryMs}`);
    for (let attempt = 0, named = ""; ; attempt++) {
      try {
        warnings = [];
        await savepoint(client, () => client.query(sql));
        for (const warning of warnings) report(`${name}: ${warning}`);
        return;
      } catch (error) {
        if (!isLockTimeout(error)) throw error;
        const holders = await findLockHolders(client, tableNames(tables));
        const pids = holders.map(({ pid }) => pid).join();
        const held = `by ${holders.map(describeBlocker).join(", ") || "a transaction that has ended since"}`;
        if (performance.now() >= until) {
          const remedy = holders.map(endBlocker).join(" ");
          throw new Error(`its tables have been locked for ${totalMs / 1000} s ${held}. ${remedy}`.trim(), {
            cause: error,
          });
        }
        if (attempt === 0 || pids !== named)
          report(
            `${name} waits for locks on its tables, held ${held}; it tries again for ${totalMs / 1000} s`,
          );
        named = pids;
        await delay(pausesMs[Math.min(attempt, pausesMs.length - 1)]);
      }
    }
  } finally {
    client.off("notice", listen);
  }
}
