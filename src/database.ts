import type { Config } from "./config.ts";
import { openDatabase, type Database } from "./postgres/pool.ts";
import { openReplicas } from "./postgres/replicas.ts";
import { quoteTables } from "./postgres/tables.ts";

/** How long a call waits for a connection of the pool, and a connection for Postgres. */
const CONNECT_TIMEOUT_MS = 10_000;

/** Opens the database and its replicas as they are configured. None of them need be there yet. */
export async function openConfigured({
  names,
  replicaUrls,
  ...settings
}: Config["database"]): Promise<Database> {
  const options = { ...settings, tables: quoteTables(names), connectTimeoutMs: CONNECT_TIMEOUT_MS };
  const database = await openDatabase(options);
  if (replicaUrls.length === 0) return database;
  const replicas = await openReplicas(database, {
    ...options,
    urls: replicaUrls,
    lagMaxMs: settings.replicaLagMaxMs,
  });
  return {
    ...database,
    replicas,
    async close() {
      await Promise.all([replicas.close(), database.close()]);
    },
  };
}
