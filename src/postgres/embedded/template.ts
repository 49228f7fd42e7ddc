import { createHash } from "node:crypto";
import { constants, cpSync, existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { MIGRATIONS, readMigrations } from "../migrations/files.ts";
import type { Tables } from "../tables.ts";
import { clusterPath } from "./cluster.ts";

/**
 * Directory of the template: a data directory with the tables of this version and nothing in them, which a new
 * embedded database is copied from. `npm ci` makes it.
 */
const TEMPLATES = fileURLToPath(new URL("../../../node_modules/.cache/pgquiver/templates/", import.meta.url));

/** The packages whose versions decide what a data directory is made of. */
const PACKAGES = ["@electric-sql/pglite", "@electric-sql/pglite-pgvector"];

/**
 * Path of the template for these tables; undefined when there is none of exactly this version, with these names of
 * tables: a new database is then made by initdb and all migrations.
 */
export async function findTemplate(tables: Tables, templates = TEMPLATES): Promise<string | undefined> {
  const path = join(templates, await nameTemplate(tables));
  return existsSync(path) ? path : undefined;
}

/** Copies a template into a directory that does not exist yet. */
export function copyTemplate(template: string, directory: string): void {
  // Synchronously: that takes half of the CPU time, and nothing else runs before the database is open.
  cpSync(template, directory, { recursive: true, mode: constants.COPYFILE_FICLONE });
}

/**
 * Makes the template for these tables, unless it is there, and deletes those of other versions. `create` makes a database in a
 * directory, and closes it. Returns the template's path.
 */
export async function makeTemplate(
  tables: Tables,
  create: (directory: string) => Promise<void>,
  templates = TEMPLATES,
): Promise<string> {
  const name = await nameTemplate(tables);
  const path = join(templates, name);
  await mkdir(templates, { recursive: true });
  for (const other of await readdir(templates))
    if (other !== name) await rm(join(templates, other), { recursive: true });
  if (existsSync(path)) return path;
  const work = await mkdtemp(join(templates, "new-"));
  try {
    await create(work);
    await protect(clusterPath(work));
    await rename(clusterPath(work), path);
  } finally {
    await rm(work, { recursive: true });
  }
  return path;
}

/** Takes write access from everybody else, whom PGlite gives it: a template is not in a directory of its owner only. */
async function protect(directory: string): Promise<void> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile());
  await Promise.all(files.map(({ parentPath, name }) => chmod(join(parentPath, name), 0o644)));
}

/** The SHA-256 of all that a template is made from: the packages' versions and the migrations, with the names of the tables. */
async function nameTemplate(tables: Tables): Promise<string> {
  const versions = await Promise.all(PACKAGES.map(readVersion));
  const migrations = await readMigrations(tables, MIGRATIONS);
  const parts = [...versions, ...migrations.flatMap(({ name, sql }) => [name, sql])];
  return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
}

async function readVersion(name: string): Promise<string> {
  const file = new URL("../package.json", import.meta.resolve(name));
  const { version } = JSON.parse(await readFile(file, "utf8")) as { version: string };
  return `${name} ${version}`;
}
