import type { Database } from "../postgres/database.ts";
import { cancellable } from "../postgres/transaction.ts";
import { findVersion } from "./version.ts";

/**
 * Runs `read`, which reads the rows of a store, on a replica that has every write to the store acknowledged so far;
 * on the primary when there is no such replica, when it fails, and when what it gave will not do. So a caller finds
 * what was written before, by whomever, wherever the search runs. `read` may run twice.
 */
export async function readFresh<T>(
  primary: Database,
  storeId: string,
  read: (database: Database, signal: AbortSignal) => Promise<T>,
  willDo: (value: T) => boolean,
  signal: AbortSignal,
): Promise<T> {
  const replica = primary.replicas?.choose();
  if (replica === undefined) return read(primary, signal);
  const readVersion = (database: Database, until: AbortSignal) =>
    cancellable(database.pool, until, (client) => findVersion(client, database.tables, storeId));
  // What the primary says after the call began includes all that was acknowledged before it.
  const [current, copied] = await Promise.all([
    readVersion(primary, signal),
    replica.run(readVersion, signal),
  ]);
  if (current !== undefined && current === copied?.value) {
    const found = await replica.run(read, signal);
    if (found !== undefined && willDo(found.value)) return found.value;
  }
  return read(primary, signal);
}
