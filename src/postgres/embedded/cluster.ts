import { existsSync, readdirSync } from "node:fs";
import { open, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";

/** The data directory of Postgres, within the directory of the embedded database. */
const CLUSTER = "pgdata";

/** Where a data directory is made, beside its final place. */
const STAGING = "pgdata.new";

/** Path of the data directory of Postgres, which exists once the database has been created. */
export function clusterPath(directory: string): string {
  return join(directory, CLUSTER);
}

/** Whether the directory contains a database: as it is renamed into its place, it is complete. */
export function isCreated(directory: string): boolean {
  return existsSync(join(clusterPath(directory), "PG_VERSION"));
}

/**
 * Creates the data directory of Postgres: `fill` makes it in a staging directory, which is flushed to disk and then renamed, so
 * that a crash at any point leaves a whole database or none. What an earlier crash left in the staging directory is
 * deleted. Throws an Error when there are files in the final place, which may be somebody's data.
 */
export async function createCluster(
  directory: string,
  fill: (staging: string) => Promise<void>,
): Promise<void> {
  const path = clusterPath(directory);
  if (existsSync(path) && readdirSync(path).length > 0) {
    throw new Error(
      `The directory ${path} has files but no PG_VERSION, so it is not a complete database. Restore it from a ` +
        "backup, or move it away: the next start then creates an empty database.",
    );
  }
  const staging = join(directory, STAGING);
  await rm(staging, { recursive: true, force: true });
  try {
    await fill(staging);
    await flushTree(staging);
    await rename(staging, path);
  } catch (error) {
    await rm(staging, { recursive: true, force: true });
    throw error;
  }
  await flush(directory);
}

/** Flushes the files and directories of a tree to disk: after a power failure a renamed directory may have empty files otherwise. */
async function flushTree(directory: string): Promise<void> {
  const names = await readdir(directory, { recursive: true });
  await Promise.all(["", ...names].map((name) => flush(join(directory, name))));
}

async function flush(path: string): Promise<void> {
  const file = await open(path);
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
