import type pg from "pg";
import { isReadOnly } from "./errors.ts";

/**
 * Runs `work` between BEGIN and COMMIT on one connection. When `work` throws, the transaction is rolled back and
 * the error passed on, whatever becomes of the rollback. A COMMIT that Postgres answers with ROLLBACK, as it does
 * after a failed statement whose error `work` swallowed, is an error.
 * With a signal: see `cancellable`; an abort seen before COMMIT rolls back.
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
        throw new Error("The transaction was rolled back: one of its statements had failed.");
      return result;
    } catch (error) {
      // Should this fail as well, `withClient` closes the connection, for it is still inside the transaction.
      await client.query("rollback").catch(() => {});
      throw error;
    }
  });
}

/** Runs `work` inside a transaction so that its failure undoes its own statements only. */
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
 * Runs `work` on one connection and gives up as soon as `signal` aborts, with the signal's reason. The connection
 * is then closed, never reused, and the server itself stops the statement that ran on it: within
 * `client_connection_check_interval`, which the pool sets. So an abort cannot reach a statement of somebody
 * else, needs no second connection when the pool is exhausted, and works behind a proxy. On the embedded database
 * a statement cannot be interrupted; its answer is dropped.
 */
export async function cancellable<T>(
  pool: Pick<pg.Pool, "connect">,
  signal: AbortSignal,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  return withClient(pool, signal, work);
}

/** Checks out a client, runs `work` and releases the client, once. */
async function withClient<T>(
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
      // Closed, not reused: a connection whose statement was abandoned, one to a server that takes no writes, since
      // another may by now, and one still inside a transaction, which it is too when it broke there. Outside of one,
      // the pool itself notices that it is broken, and it closes those of its own statements that fail.
      client.release(isDemoted || signal?.aborted === true || client.getTransactionStatus() !== "I");
    }
  } finally {
    signal?.removeEventListener("abort", abandon);
  }
}

/** A client of the pool; one that comes after the abort goes straight back, for nobody waits for it. */
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
