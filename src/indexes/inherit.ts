import { setTimeout as delay } from "node:timers/promises";
import type { Client } from "../postgres/database.ts";
import { isLockTimeout } from "../postgres/errors.ts";
import type { Tables } from "../postgres/tables.ts";
import { savepoint } from "../postgres/transaction.ts";

/**
 * ALTER TABLE … INHERIT and DROP TABLE need ACCESS EXCLUSIVE on the own table: while the statement waits, new readers of
 * the store queue behind it. So it waits this long, then pauses to let the queue drain, and gives up after so
 * many tries.
 */
const BRIEF_WAIT_MS = 200;
const BRIEF_PAUSE_MS = 300;
const BRIEF_WAITS_MAX = 20;

/** The statement that makes an own table a child of the shared one. */
export function inherit(own: string, tables: Tables): string {
  return `alter table ${own} inherit ${tables.embeddings}`;
}

/** The statement that drops an own table. */
export function drop(own: string): string {
  return `drop table if exists ${own}`;
}

/**
 * Runs statements that need ACCESS EXCLUSIVE on own tables, in the caller's transaction, in short tries. A try runs all of them
 * or none, so that readers of one table never wait for as long as another table is in use.
 */
export async function changeBriefly(
  client: Client,
  statements: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  await client.query(`set local lock_timeout = ${BRIEF_WAIT_MS}`);
  for (let wait = 1; ; wait++) {
    try {
      return await savepoint(client, async () => {
        for (const statement of statements) await client.query(statement);
      });
    } catch (error) {
      if (!isLockTimeout(error) || wait === BRIEF_WAITS_MAX) throw error;
      await delay(BRIEF_PAUSE_MS, undefined, { signal });
    }
  }
}
