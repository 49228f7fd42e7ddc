import pg from "pg";
import type { Queryable } from "./database.ts";
import type { Tables } from "./tables.ts";

/**
 * SQL for the key of an advisory lock: a 64-bit hash of the lock's name, given as the SQL expression
 * `parameter`, and the oid of the `vector_stores` table. Advisory locks are shared by all installations in a
 * database; the oid tells installations apart whatever role or search_path they use. Two names with the same
 * hash only wait for each other.
 */
export function lockKey(tables: Tables, parameter: string): string {
  return `hashtextextended('${tables.vectorStores}'::regclass::oid || ' ' || ${parameter}, 0)`;
}

/**
 * Name of a store's placement lock: writers of its rows hold it shared, the switch to another table
 * exclusively.
 */
export function placementLock(storeId: string): string {
  return `pgquiver placement ${storeId}`;
}

/** Name of a store's attachment lock: attaching files holds it shared, deleting the store exclusively. */
export function attachmentLock(storeId: string): string {
  return `pgquiver attachments ${storeId}`;
}

/** Waits for a transaction-level advisory lock in shared mode. */
export async function lockShared(client: Queryable, tables: Tables, name: string): Promise<void> {
  await client.query({
    name: "lock_shared",
    text: `select pg_advisory_xact_lock_shared(${lockKey(tables, "$1::text")})`,
    values: [name],
  });
}

/** The statement of `lockShared`, without parameters. */
export function lockSharedStatement(tables: Tables, name: string): string {
  return `select pg_advisory_xact_lock_shared(${lockKey(tables, `${pg.escapeLiteral(name)}::text`)})`;
}

/**
 * Takes a transaction-level advisory lock in exclusive mode without waiting; false when another session holds
 * the lock.
 */
export async function tryLock(client: Queryable, tables: Tables, name: string): Promise<boolean> {
  const result = await client.query<{ taken: boolean }>(
    `select pg_try_advisory_xact_lock(${lockKey(tables, "$1::text")}) as taken`,
    [name],
  );
  return result.rows[0]?.taken === true;
}

/** Waits for a transaction-level advisory lock in exclusive mode. The session's `lock_timeout` applies. */
export async function lockExclusive(client: Queryable, tables: Tables, name: string): Promise<void> {
  await client.query(`select pg_advisory_xact_lock(${lockKey(tables, "$1::text")})`, [name]);
}
