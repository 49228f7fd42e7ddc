import type { Database } from "../postgres/database.ts";
import { cancellable } from "../postgres/transaction.ts";
import { findVersion } from "./version.ts";

/**
 * Runs `read` on a replica that has replayed every acknowledged write to the store, which gives
 * read-after-write consistency. Falls back to the primary when no replica is that fresh, when the replica
 * fails, or when `willDo` rejects its result; so `read` may run twice.
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
  // The primary's version is read after this call began, so it covers every write acknowledged before the
  // call.
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
