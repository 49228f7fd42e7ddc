import { hasWorkers, prepareCitus } from "../../../src/postgres/citus/cluster.ts";
import type { Database } from "../../../src/postgres/database.ts";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";
import { administer, databaseUrl } from "./template.ts";

/**
 * The URLs of TEST_CITUS_URL, separated by commas: of a Citus coordinator, then of its workers. They must be servers of
 * their own whose databases with the same name can be made nodes of a cluster. Undefined: tests use no cluster.
 */
export function citusUrls(): { coordinator: string; workers: string[] } | undefined {
  const [coordinator, ...workers] = process.env["TEST_CITUS_URL"]?.split(",") ?? [];
  return coordinator === undefined ? undefined : { coordinator, workers };
}

/** Makes an empty database on each node of a cluster, and connects them. */
export async function createCluster(
  coordinator: string,
  workers: readonly string[],
  name: string,
): Promise<void> {
  const all = [...workers, coordinator];
  await Promise.all(
    all.map(async (url) => {
      await administer(url, `create database ${name}`);
      await administer(databaseUrl(url, name), "create extension vector; create extension citus");
    }),
  );
  const here = databaseUrl(coordinator, name);
  await administer(here, `select citus_set_coordinator_host(${addressOf(coordinator)})`);
  for (const url of workers) await administer(here, `select citus_add_node(${addressOf(url)})`);
}

/** Drops the database on each node. */
export async function dropCluster(
  coordinator: string,
  workers: readonly string[],
  name: string,
): Promise<void> {
  for (const url of [coordinator, ...workers])
    await administer(url, `drop database if exists ${name} with (force)`);
}

/** Migrates a database of a cluster, and prepares it as the service does. */
export async function prepareCluster(database: Database): Promise<void> {
  if (!(await hasWorkers(database.pool))) throw new Error("The cluster has no workers.");
  await migrate(database);
  database.citus = await prepareCitus(database, "auto", { memoryBytes: 64 * 1024 * 1024, workers: 0 });
}

function addressOf(url: string): string {
  const { hostname, port } = new URL(url);
  return `'${hostname}', ${port}`;
}
