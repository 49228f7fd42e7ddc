import type pg from "pg";
import { isReadOnly } from "./errors.ts";

/**
 * Runs `work` between BEGIN and COMMIT on one connection. When `work` throws, the transaction is rolled back
 * and the error is rethrown, even if the ROLLBACK fails as well. Throws when Postgres answers COMMIT with
 * ROLLBACK, which happens after a failed statement whose error `work` has swallowed. With a signal: as
 * `cancellable`; an abort before COMMIT rolls back.
 */
export async function transaction<T>(
  pool: Pick<pg.Pool, "connect">,
  work: (client: pg.PoolClient) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  return withClient(pool, signal, async (client) => {
    try {
      await client.query("begin");
      const result = await work(client);
      signal?.throwIfAborted();
      const { command } = await client.query("commit");
      if (command !== "COMMIT")
        throw new Error("The transaction was rolled back at COMMIT: one of its statements had failed.");
      return result;
    } catch (error) {
      // If ROLLBACK fails, the connection is still inside the transaction, and `withClient` closes it.
      await client.query("rollback").catch(() => {});
      throw error;
    }
  });
}

/**
 * Runs `work` inside a transaction under a SAVEPOINT: when `work` throws, only its own statements are rolled
 * back.
 */
export async function savepoint<T>(client: pg.PoolClient, work: () => Promise<T>): Promise<T> {
  await client.query("savepoint work");
  try {
    const result = await work();
    await client.query("release savepoint work");
    return result;
  } catch (error) {
    await client.query("rollback to savepoint work").catch(() => {});
    throw error;
  }
}

/**
 * Runs `work` on one connection, and rejects with the signal's reason as soon as `signal` aborts. An abort
 * closes the connection, and the server cancels the statement within `client_connection_check_interval`,
 * which the pool sets. Compared to a cancel request, closing cannot hit another caller's statement, needs no
 * second connection when the pool is exhausted, and works behind a proxy. The embedded database cannot cancel
 * a statement: its result is discarded.
 */
export async function cancellable<T>(
  pool: Pick<pg.Pool, "connect">,
  signal: AbortSignal,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  return withClient(pool, signal, work);
}

/** Checks out a client, runs `work` and releases the client, once. With a signal: as `cancellable`. */
export async function withClient<T>(
  pool: Pick<pg.Pool, "connect">,
  signal: AbortSignal | undefined,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  signal?.throwIfAborted();
  const abandoned = Promise.withResolvers<never>();
  const abandon = () => abandoned.reject(signal?.reason);
  signal?.addEventListener("abort", abandon, { once: true });
  try {
    const client = await Promise.race([checkOut(pool, signal), abandoned.promise]);
    let isDemoted = false;
    try {
      return await Promise.race([work(client), abandoned.promise]);
    } catch (error) {
      isDemoted = isReadOnly(error);
      throw error;
    } finally {
      // Close the connection instead of returning it to the pool when 1. its statement was abandoned by an
      // abort, 2. its server is read-only: after a fail-over a new connection may reach the new primary, or
      // 3. it is still inside a transaction, which includes a connection lost inside one. The pool itself
      // removes connections that break outside of a transaction.
      client.release(isDemoted || signal?.aborted === true || client.getTransactionStatus() !== "I");
    }
  } finally {
    signal?.removeEventListener("abort", abandon);
  }
}

/**
 * Checks a client out of the pool. After an abort nobody waits for the client any more, so it is released at
 * once.
 */
async function checkOut(
  pool: Pick<pg.Pool, "connect">,
  signal: AbortSignal | undefined,
): Promise<pg.PoolClient> {
  const client = await pool.connect();
  if (signal?.aborted === true) {
    client.release();
    signal.throwIfAborted();
  }
  return client;
}
