import type { Database } from "../database.ts";
import { isCreated } from "../embedded/cluster.ts";
import { findTemplate } from "../embedded/template.ts";
import { openDatabase, type DatabaseOptions } from "./pool.ts";
import { openReplicas } from "../replicas/replicas.ts";
import { quoteTables, type TableNames } from "../tables.ts";

/** Timeout for checking a connection out of the pool, and for establishing one. */
const CONNECT_TIMEOUT_MS = 10_000;

/** The configuration of the database and its read replicas. */
export interface DatabaseSettings extends Omit<DatabaseOptions, "tables" | "template" | "connectTimeoutMs"> {
  /** Directory of the embedded database. */
  directory: string;
  names: TableNames;
  /** Postgres URLs of read replicas. */
  replicaUrls: readonly string[];
  /** Maximum replication lag, in milliseconds, of a replica that searches use. */
  replicaLagMaxMs: number;
}

/**
 * Opens the configured database and read replicas. Connects lazily, so an unreachable server does not fail
 * here. `report` gets a message before each step that may take seconds.
 */
export async function openConfigured(
  { names, replicaUrls, replicaLagMaxMs, ...settings }: DatabaseSettings,
  report: (message: string) => void = () => {},
): Promise<Database> {
  const tables = quoteTables(names);
  const { url, directory } = settings;
  const isNew = url === undefined && !isCreated(directory);
  const template = isNew ? await findTemplate(tables) : undefined;
  const options = { ...settings, tables, template, connectTimeoutMs: CONNECT_TIMEOUT_MS };
  if (isNew) report(describeCreation(directory, template));
  else if (url === undefined) report(`Opening the embedded database in ${directory}`);
  const database = await openDatabase(options);
  if (url !== undefined) report(`Connecting to ${database.description}`);
  if (replicaUrls.length === 0) return database;
  const replicas = await openReplicas(database, {
    ...options,
    urls: replicaUrls,
    lagMaxMs: replicaLagMaxMs,
  });
  return {
    ...database,
    replicas,
    async close(withinMs?: number) {
      await Promise.all([replicas.close(withinMs), database.close(withinMs)]);
    },
  };
}

function describeCreation(directory: string, template: string | undefined): string {
  const creation = `Creating the embedded database in ${directory}`;
  return template === undefined ? `${creation}: this takes some seconds, once` : creation;
}
