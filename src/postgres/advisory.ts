import type { Queryable } from "./database.ts";
import type { Tables } from "./tables.ts";

/**
 * SQL for the key of an advisory lock: a hash of its name, given as `parameter`, and of the stores' table itself. The
 * locks of a database are shared by every installation in it, and the table is the same for every role and search path.
 * Two names with the same hash wait for each other needlessly.
 */
export function lockKey(tables: Tables, parameter: string): string {
  return `hashtextextended('${tables.vectorStores}'::regclass::oid || ' ' || ${parameter}, 0)`;
}

/** The name of the lock on where a store's rows are: shared by its writers, exclusive for the switch to another table. */
export function placementLock(storeId: string): string {
  return `pgquiver placement ${storeId}`;
}

/** The name of the lock on which files a store has: shared by those who attach some, exclusive for its end. */
export function attachmentLock(storeId: string): string {
  return `pgquiver attachments ${storeId}`;
}

/** Waits for a lock, held until the end of the transaction together with others that share it. */
export async function lockShared(client: Queryable, tables: Tables, name: string): Promise<void> {
  await client.query({
    name: "lock_shared",
    text: `select pg_advisory_xact_lock_shared(${lockKey(tables, "$1::text")})`,
    values: [name],
  });
}

/** Takes a lock until the end of the transaction if nobody holds it; false when somebody does. */
export async function tryLock(client: Queryable, tables: Tables, name: string): Promise<boolean> {
  const result = await client.query<{ taken: boolean }>(
    `select pg_try_advisory_xact_lock(${lockKey(tables, "$1::text")}) as taken`,
    [name],
  );
  return result.rows[0]?.taken === true;
}

/** Waits for a lock, held until the end of the transaction by this one alone. The session's `lock_timeout` applies. */
export async function lockExclusive(client: Queryable, tables: Tables, name: string): Promise<void> {
  await client.query(`select pg_advisory_xact_lock(${lockKey(tables, "$1::text")})`, [name]);
}
