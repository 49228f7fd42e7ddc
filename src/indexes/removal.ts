import type { Client } from "../postgres/database.ts";
import { isConflict, isInsufficientPrivilege, isLockTimeout } from "../postgres/errors.ts";
import { asOwner } from "../postgres/row-security/client.ts";
import { placeTables, type Tables } from "../postgres/tables.ts";
import { savepoint } from "../postgres/transaction.ts";

/** Lock timeout of DROP TABLE in the deletion of a store, in all, divided among so many attempts. */
const DROP_WAIT_MS = 1_000;
const DROP_ATTEMPTS = 5;

/**
 * Locks a store's catalog row until the transaction ends. Call it before the store's own row is locked or
 * deleted: the index worker locks in that order, and the reverse order would deadlock.
 */
export async function lockIndex(client: Client, tables: Tables, storeId: string): Promise<void> {
  await client.query(`select 1 from ${tables.indexes} where vector_store_id = $1 for update`, [storeId]);
}

/**
 * Drops a deleted store's own table, in the transaction that deletes the store, after `lockIndex`. When
 * another session keeps the table locked for `DROP_WAIT_MS`, the table is left to the index worker, which
 * drops it later; its rows are unreachable from the commit on.
 */
export async function dropOwnTable(client: Client, tables: Tables, storeId: string): Promise<void> {
  const { rows } = await client.query<{ own_table: string | null }>(
    `select own_table from ${tables.indexes} where vector_store_id = $1`,
    [storeId],
  );
  const [found] = rows;
  if (found === undefined) return;
  if (found.own_table === null || (await dropTable(client, tables, found.own_table))) {
    await client.query(`delete from ${tables.indexes} where vector_store_id = $1`, [storeId]);
    return;
  }
  await client.query(
    `update ${tables.indexes} set vector_store_id = null, due = true, retry_at = null where vector_store_id = $1`,
    [storeId],
  );
}

/** Drops a table that nobody reads any more; false when another session keeps it locked. */
export async function dropTable(client: Client, tables: Tables, name: string): Promise<boolean> {
  return asOwner(client, () => tryDrop(client, tables, name));
}

async function tryDrop(client: Client, tables: Tables, name: string): Promise<boolean> {
  await client.query(`set local lock_timeout = ${DROP_WAIT_MS / DROP_ATTEMPTS}`);
  for (let attempt = 1; attempt <= DROP_ATTEMPTS; attempt++) {
    await cancelHolders(client, name);
    try {
      await savepoint(client, () =>
        client.query(`drop table if exists ${placeTables(tables, { own_table: name }).embeddings}`),
      );
      await client.query("set local lock_timeout = default");
      return true;
    } catch (error) {
      // On a node of a cluster an index build waits for this transaction, which Citus ends as a deadlock. Not tried again:
      // after a second deadlock the node's transaction is aborted, and with it the deletion.
      if (isConflict(error)) break;
      if (!isLockTimeout(error)) throw error;
    }
  }
  await client.query("set local lock_timeout = default");
  return false;
}

/**
 * Cancels client sessions with SHARE UPDATE EXCLUSIVE on the table (CREATE INDEX CONCURRENTLY, VACUUM): they
 * hold the lock for up to hours, and CREATE INDEX CONCURRENTLY may itself wait for this transaction, which
 * would be a deadlock.
 */
async function cancelHolders(client: Client, name: string): Promise<void> {
  const holders = `from pg_locks join pg_stat_activity using (pid)
    where pg_locks.database = pg_stat_activity.datid and datname = current_database()
      and relation = to_regclass(quote_ident($1)) and mode = 'ShareUpdateExclusiveLock' and granted
      and backend_type = 'client backend' and pid <> pg_backend_pid()`;
  try {
    await savepoint(client, () => client.query(`select pg_cancel_backend(pid) ${holders}`, [name]));
  } catch (error) {
    // Without the privilege to cancel (pg_signal_backend) the DROP times out, and the table is left to the
    // worker.
    if (!isInsufficientPrivilege(error)) throw error;
  }
}
