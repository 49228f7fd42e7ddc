import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import type { TestProject } from "vitest/node";
import { openEmbedded } from "../../../src/postgres/embedded/embedded.ts";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";
import { installRowSecurity } from "../../../src/postgres/row-security/install.ts";
import { openDatabase } from "../../../src/postgres/connection/pool.ts";
import { quoteTables } from "../../../src/postgres/tables.ts";

declare module "vitest" {
  interface ProvidedContext {
    template: Template;
  }
}

/**
 * The templates, empty and migrated, that test databases are copied from: databases on a server, or dumps in
 * files.
 */
export type Template =
  | { kind: "postgres"; url: string; migrated: string; workers?: undefined }
  | { kind: "postgres"; url: string; migrated: undefined; workers: string[] }
  | { kind: "embedded"; empty: string; migrated: string };

/** Limits of the databases that tests open, generous enough for a busy machine. */
export const TEST_LIMITS = { poolMax: 5, connectTimeoutMs: 10_000, statementTimeoutMs: 60_000 };

/**
 * Vitest's global setup: creates the templates once per run, on the server of TEST_DATABASE_URL or, without
 * that variable, for PGlite. With TEST_CITUS_URL every database is a cluster, which is not made from a template. Returns the
 * teardown.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const [coordinator, ...workers] = process.env["TEST_CITUS_URL"]?.split(",") ?? [];
  if (coordinator !== undefined) {
    project.provide("template", { kind: "postgres", url: coordinator, migrated: undefined, workers });
    return async () => {};
  }
  const url = process.env["TEST_DATABASE_URL"];
  return url === undefined ? setUpEmbedded(project) : setUpPostgres(project, url);
}

async function setUpPostgres(project: TestProject, url: string): Promise<() => Promise<void>> {
  const name = `pgquiver_template_${randomUUID().slice(0, 8)}`;
  await administer(url, `create database ${name}`);
  const database = await openDatabase({
    url: databaseUrl(url, name),
    tables: quoteTables({}),
    ...TEST_LIMITS,
  });
  await migrate(database);
  await installRowSecurity(database);
  await database.close();
  project.provide("template", { kind: "postgres", url, migrated: name });
  return () => administer(url, `drop database ${name} with (force)`);
}

async function setUpEmbedded(project: TestProject): Promise<() => Promise<void>> {
  const directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  const { pool, dump, close } = await openEmbedded(TEST_LIMITS);
  const dumpTo = async (name: string) => {
    const path = join(directory, name);
    await writeFile(path, Buffer.from(await (await dump()).arrayBuffer()));
    return path;
  };
  const empty = await dumpTo("empty.tar");
  const tables = quoteTables({});
  const database = { pool, probe: pool, tables, description: "the template", schema: undefined, close };
  await migrate({ ...database, kind: "embedded" });
  await installRowSecurity({ ...database, kind: "embedded" });
  const migrated = await dumpTo("migrated.tar");
  await close();
  project.provide("template", { kind: "embedded", empty, migrated });
  return () => rm(directory, { recursive: true });
}

/** Runs a statement on a separate connection, such as CREATE DATABASE. */
export async function administer(url: string, statement: string): Promise<void> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

/** The URL of another database on the same server. */
export function databaseUrl(url: string, name: string): string {
  return Object.assign(new URL(url), { pathname: `/${name}` }).href;
}
