import type { Database } from "./database.ts";
import { openDatabase, type DatabaseOptions } from "./pool.ts";
import { openReplicas } from "./replicas.ts";
import { quoteTables, type TableNames } from "./tables.ts";

/** How long a call waits for a connection of the pool, and a connection for Postgres. */
const CONNECT_TIMEOUT_MS = 10_000;

/** The database and its replicas as an operator names them. */
export interface DatabaseSettings extends Omit<DatabaseOptions, "tables" | "connectTimeoutMs"> {
  names: TableNames;
  /** Postgres URLs of read replicas. */
  replicaUrls: readonly string[];
  /** How far behind the primary a replica may be, in milliseconds, to be searched. */
  replicaLagMaxMs: number;
}

/** Opens the database and its replicas as they are configured. None of them need be there yet. */
export async function openConfigured({
  names,
  replicaUrls,
  replicaLagMaxMs,
  ...settings
}: DatabaseSettings): Promise<Database> {
  const options = { ...settings, tables: quoteTables(names), connectTimeoutMs: CONNECT_TIMEOUT_MS };
  const database = await openDatabase(options);
  if (replicaUrls.length === 0) return database;
  const replicas = await openReplicas(database, {
    ...options,
    urls: replicaUrls,
    lagMaxMs: replicaLagMaxMs,
  });
  return {
    ...database,
    replicas,
    async close() {
      await Promise.all([replicas.close(), database.close()]);
    },
  };
}
