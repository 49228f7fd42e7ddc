import { randomUUID } from "node:crypto";
import { openAsBlob } from "node:fs";
import type pg from "pg";
import { inject, onTestFinished } from "vitest";
import type { Database } from "../../../src/postgres/database.ts";
import { openEmbedded } from "../../../src/postgres/embedded/embedded.ts";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";
import { openDatabase } from "../../../src/postgres/connection/pool.ts";
import { quoteTables, type TableNames } from "../../../src/postgres/tables.ts";
import { guardWrites } from "../../../src/postgres/transaction.ts";
import { createCluster, dropCluster, prepareCluster } from "./citus.ts";
import { administer, databaseUrl, TEST_LIMITS } from "./template.ts";

/** A separate database for a test file, dropped when it is closed or disposed of. */
export interface TestDatabase extends Database, AsyncDisposable {
  /** URL of the database; undefined for the embedded database. */
  url: string | undefined;
}

/**
 * Creates a migrated database: a copy of the template or, with other table names, by running the migrations.
 */
export async function openTestDatabase(names?: TableNames): Promise<TestDatabase> {
  if (names === undefined) return open({}, "migrated");
  const database = await open(names, "empty");
  await migrate(database);
  return database;
}

/** Creates an empty database. */
export async function openEmptyDatabase(names: TableNames = {}): Promise<TestDatabase> {
  return open(names, "empty");
}

async function open(names: TableNames, state: "empty" | "migrated"): Promise<TestDatabase> {
  const template = inject("template");
  const tables = quoteTables(names);
  if (template.kind === "embedded") {
    const snapshot = await openAsBlob(template[state]);
    const { pool, close } = await openEmbedded({ snapshot, ...TEST_LIMITS });
    guardWrites(pool, tables);
    const database: Database = {
      pool,
      probe: pool,
      tables,
      kind: "embedded",
      description: "a test",
      schema: undefined,
      close,
    };
    return { ...database, url: undefined, [Symbol.asyncDispose]: close };
  }
  const name = `pgquiver_test_${randomUUID().slice(0, 8)}`;
  if (template.workers !== undefined) return openCluster(template.url, template.workers, name, tables, state);
  await administer(
    template.url,
    `create database ${name}${state === "migrated" ? ` template ${template.migrated}` : ""}`,
  );
  const url = databaseUrl(template.url, name);
  const database = await openDatabase({ url, tables, ...TEST_LIMITS });
  const close = async () => {
    await database.close();
    await administer(template.url, `drop database ${name} with (force)`);
  };
  return { ...database, url, close, [Symbol.asyncDispose]: close };
}

async function openCluster(
  coordinator: string,
  workers: readonly string[],
  name: string,
  tables: Database["tables"],
  state: "empty" | "migrated",
): Promise<TestDatabase> {
  await createCluster(coordinator, workers, name);
  const url = databaseUrl(coordinator, name);
  const opened = await openDatabase({ url, tables, ...TEST_LIMITS });
  const close = async () => {
    await opened.close();
    await dropCluster(coordinator, workers, name);
  };
  const database = { ...opened, url, close, [Symbol.asyncDispose]: close };
  if (state === "migrated") await prepareCluster(database);
  return database;
}

/** Returns a signal that aborts at the nth checkout of a client from the pool, counted from the call. */
export function abortAtUse(pool: pg.Pool, times: number): AbortSignal {
  const stop = new AbortController();
  let uses = 0;
  const count = () => {
    uses += 1;
    if (uses === times) stop.abort(new Error("stopped"));
  };
  pool.on("acquire", count);
  onTestFinished(() => void pool.off("acquire", count));
  return stop.signal;
}
