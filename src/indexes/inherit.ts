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

/** Makes an own table a child of the shared one, in the caller's transaction. */
export async function inherit(
  client: Client,
  own: string,
  tables: Tables,
  signal: AbortSignal,
): Promise<void> {
  await changeBriefly(client, `alter table ${own} inherit ${tables.embeddings}`, signal);
}

/** Runs a statement that needs ACCESS EXCLUSIVE on an own table, in the caller's transaction, in short tries. */
export async function changeBriefly(client: Client, statement: string, signal: AbortSignal): Promise<void> {
  await client.query(`set local lock_timeout = ${BRIEF_WAIT_MS}`);
  for (let wait = 1; ; wait++) {
    try {
      return void (await savepoint(client, () => client.query(statement)));
    } catch (error) {
      if (!isLockTimeout(error) || wait === BRIEF_WAITS_MAX) throw error;
      await delay(BRIEF_PAUSE_MS, undefined, { signal });
    }
  }
}
