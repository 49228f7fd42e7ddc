import { setTimeout as delay } from "node:timers/promises";
import type pg from "pg";
import { describeBlocker, endBlocker, findLockHolders, nameBlocker } from "../blockers.ts";
import { isConflict, isLockTimeout } from "../errors.ts";
import { tableNames, type Tables } from "../tables.ts";
import { savepoint } from "../transaction.ts";

/** How long migrations wait for their locks. */
export interface LockWait {
  /**
   * Lock timeout of one try. ALTER TABLE and LOCK TABLE wait for ACCESS EXCLUSIVE, and while they do, every
   * new statement on the table queues behind them. The few waits of all migrations together must end before
   * `deadlock_timeout`, 1 s by default: a writer that has one table and waits for another must not be the one that
   * Postgres ends.
   */
  tryMs: number;
  /** Pauses between tries, in which that queue drains; the last one repeats. */
  pausesMs: readonly number[];
  /** All tries together; the migrations fail after that. */
  totalMs: number;
}

const LOCK_WAIT: LockWait = { tryMs: 300, pausesMs: [500, 1_000, 2_000, 4_000], totalMs: 120_000 };

/** The SQL of a migration, and the name of its file. */
export interface MigrationFile {
  name: string;
  sql: string;
}

/**
 * Runs migrations inside a transaction. A try in which one of them hits the lock timeout, or a deadlock, is rolled back to a
 * savepoint, so that none keeps its locks, and is repeated after a pause, in which other applications go on.
 * `report` gets a line that names the holders of the locks, whenever they change, and each WARNING of the SQL.
 * Throws an Error that names the migration, and the holders when the time is up.
 */
export async function applyMigrations(
  client: pg.PoolClient,
  tables: Tables,
  migrations: readonly MigrationFile[],
  report: (message: string) => void,
  { tryMs, pausesMs, totalMs }: LockWait = LOCK_WAIT,
): Promise<void> {
  const until = performance.now() + totalMs;
  await client.query(`set local lock_timeout = ${tryMs}`);
  for (let attempt = 0, named = ""; ; attempt++) {
    let current = "";
    const warnings: string[] = [];
    const listen = ({ severity, message }: NoticeFields) => {
      if (severity === "WARNING") warnings.push(`${current}: ${message}`);
    };
    client.on("notice", listen);
    try {
      await savepoint(client, async () => {
        for (const { name, sql } of migrations) {
          current = name;
          await client.query(sql);
        }
      });
      warnings.forEach(report);
      return;
    } catch (error) {
      // In a deadlock the writer has won: the migration has lost nothing but a try.
      if (!isLockTimeout(error) && !isConflict(error))
        throw failure(current, (error as Error).message, error);
      const holders = await findLockHolders(client, tableNames(tables));
      const held = `by ${holders.map(describeBlocker).join(", ") || "a transaction that has ended since"}`;
      if (performance.now() >= until) {
        const message = `its tables have been locked for ${totalMs / 1000} s ${held}`;
        throw failure(current, [message, ...holders.map(endBlocker)].join("; "), error);
      }
      const names = holders.map(nameBlocker).join();
      if (attempt === 0 || names !== named)
        report(
          `${current} waits for locks on its tables, held ${held}; it tries again for ${totalMs / 1000} s`,
        );
      named = names;
      await delay(pausesMs[Math.min(attempt, pausesMs.length - 1)]);
    } finally {
      client.off("notice", listen);
    }
  }
}

/** The fields of a notice that are read here. */
interface NoticeFields {
  severity?: string | undefined;
  message?: string | undefined;
}

function failure(name: string, message: string, cause: unknown): Error {
  return new Error(`Migration ${name} failed and was rolled back: ${message}.`, { cause });
}
