import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import { setTimeout as delay } from "node:timers/promises";
import { describe, expect, inject, test } from "vitest";
import { reasonOf } from "../../../src/errors.ts";
import type { Database } from "../../../src/postgres/database.ts";
import { toServiceError } from "../../../src/postgres/errors.ts";
import { openDatabase, ping } from "../../../src/postgres/connection/pool.ts";
import { SEARCH_SETTINGS } from "../../../src/postgres/search-settings.ts";
import { quoteTables } from "../../../src/postgres/tables.ts";
import { transaction } from "../../../src/postgres/transaction.ts";
import { withWaitBudget } from "../../../src/postgres/connection/wait-budget.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

const native = inject("template").kind === "postgres";

/** Opens the database of a test once more, with other parameters in its URL. */
async function reopen(
  url: string | undefined,
  parameters: string,
  limits = {},
): Promise<Database & AsyncDisposable> {
  const database = await openDatabase({
    url: `${url}?${parameters}`,
    tables: quoteTables({}),
    ...TEST_LIMITS,
    ...limits,
  });
  return { ...database, [Symbol.asyncDispose]: () => database.close() };
}

async function readSettings({ pool }: Database, ...names: string[]): Promise<string[]> {
  const { rows } = await pool.query("select current_setting(name) as value from unnest($1::text[]) as name", [
    names,
  ]);
  return rows.map(({ value }) => value);
}

/** A server that accepts connections and says nothing. */
async function listen(): Promise<{ url: string; close: () => Promise<void> }> {
  const server = createServer((socket) => socket.resume()).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const close = () => new Promise<void>((resolve) => server.close(() => resolve()));
  return { url: `postgresql://user:secret@127.0.0.1:${port}/db`, close };
}

test("answers a ping", async () => {
  await using database = await openTestDatabase();
  await expect(ping(database, 10_000)).resolves.toBeUndefined();
});

test("a server that is away is unavailable, and neither opening nor closing minds", async () => {
  const { url, close } = await listen();
  await close();
  await using database = await reopen(url, "");
  const failure = await ping(database, 10_000).catch((error: unknown) => error);
  expect(reasonOf(toServiceError(failure))).toBe("DATABASE_UNAVAILABLE");
});

test("a server that does not answer is given up on", async () => {
  const { url, close } = await listen();
  {
    await using database = await reopen(url, "", { connectTimeoutMs: 100 });
    const failure = await database.pool.query("select 1").catch((error: unknown) => error);
    expect(reasonOf(toServiceError(failure))).toBe("DATABASE_UNAVAILABLE");
    await expect(ping(database, 50)).rejects.toThrow("timeout");
  }
  await close();
});

test("describes itself without the password", async () => {
  await using database = await reopen("postgresql://user:secret@db.example:6543/main", "sslmode=disable");
  expect(database.description).toBe("PostgreSQL at db.example:6543, database main");
});

test("who waits too long for a connection is told to come back", async () => {
  await using database = await openTestDatabase();
  const { pool } = database;
  const clients = await Promise.all(Array.from({ length: pool.options.max }, () => pool.connect()));
  pool.options.connectionTimeoutMillis = 100;
  const failure = await pool.query("select 1").catch((error: unknown) => error);
  expect(reasonOf(toServiceError(failure))).toBe("RATE_LIMIT_EXCEEDED");
  for (const client of clients) client.release();
  await expect(pool.query("select 1")).resolves.toMatchObject({ rowCount: 1 });
});

describe.runIf(native)("the queue for a connection", () => {
  /** A database with one connection, which is taken. */
  async function openTaken() {
    const database = await openTestDatabase();
    const single = await reopen(database.url, "connection_limit=1");
    const client = await single.pool.connect();
    const close = async () => {
      await single[Symbol.asyncDispose]();
      await database[Symbol.asyncDispose]();
    };
    return { pool: single.pool, client, [Symbol.asyncDispose]: close };
  }
  const failureOf = (work: Promise<unknown>) =>
    work.then(
      () => undefined,
      (error: unknown) => reasonOf(toServiceError(error)),
    );

  test("is bounded in number", async () => {
    await using taken = await openTaken();
    const { pool, client } = taken;
    const waiting = Array.from({ length: 50 }, () => pool.query("select 1"));
    expect(await failureOf(pool.query("select 1"))).toBe("RATE_LIMIT_EXCEEDED");
    client.release();
    await Promise.all(waiting);
    await pool.query("select 1");
  });

  test("takes from a call no more than its budget, however often it waits and in how many places", async () => {
    await using taken = await openTaken();
    const { pool, client } = taken;
    const startedAt = performance.now();
    await withWaitBudget(400, async () => {
      const both = Promise.all([pool.query("select 1"), pool.query("select 1")]);
      await delay(200);
      client.release();
      await both;
      const other = await pool.connect();
      const secondAt = performance.now();
      expect(await failureOf(pool.query("select 1"))).toBe("RATE_LIMIT_EXCEEDED");
      expect(performance.now() - secondAt).toBeLessThan(250);
      expect(await failureOf(pool.query("select 1"))).toBe("RATE_LIMIT_EXCEEDED");
      other.release();
    });
    expect(performance.now() - startedAt).toBeLessThan(1_000);
    await pool.query("select 1");
  });

  test("frees what a call leaves behind of its budget", async () => {
    await using taken = await openTaken();
    const { pool, client } = taken;
    const { left } = await withWaitBudget(50, async () => ({
      left: delay(100).then(() => pool.query("select 1")),
    }));
    await delay(200);
    client.release();
    expect(await left).toMatchObject({ rowCount: 1 });
  });
});

test.runIf(native)("a session starts with its limits and its name", async () => {
  await using database = await openTestDatabase();
  await using limited = await reopen(database.url, "", { statementTimeoutMs: 1_234 });
  expect(await readSettings(limited, "statement_timeout", "application_name")).toEqual([
    "1234ms",
    "pgquiver",
  ]);
  expect(
    await readSettings(limited, "client_connection_check_interval", "idle_in_transaction_session_timeout"),
  ).toEqual(["500ms", "1min"]);
});

test("a session starts with the settings that searches rely on", async () => {
  await using database = await openTestDatabase();
  expect(await readSettings(database, ...Object.keys(SEARCH_SETTINGS))).toEqual(
    Object.values(SEARCH_SETTINGS).map(String),
  );
  expect(database.searchSettings ?? {}).toEqual({});
});

test.runIf(native)("understands Prisma's parameters and passes on Postgres's own", async () => {
  await using database = await openTestDatabase();
  await using reopened = await reopen(
    database.url,
    "schema=a%20%22b%5Cc&connection_limit=3&pool_timeout=7&connect_timeout=4&socket_timeout=9&pgbouncer=false" +
      "&statement_cache_size=0&sslmode=disable&application_name=mine&options=-c%20work_mem%3D5MB",
  );
  expect(await readSettings(reopened, "search_path", "work_mem", "application_name")).toEqual([
    String.raw`"a ""b\c",public`,
    "5MB",
    "mine",
  ]);
  expect(reopened.pool.options).toMatchObject({ max: 3, connectionTimeoutMillis: 7_000 });
  expect(reopened.schema).toBe(String.raw`a "b\c`);
});

test.runIf(native)("asks PgBouncer for no settings, which it would refuse", async () => {
  await using database = await openTestDatabase();
  await using pooled = await reopen(database.url, "pgbouncer=true", { statementTimeoutMs: 1_234 });
  // A database of a cluster has the settings of searches itself, since its nodes connect to each other.
  const ofSearches = database.citus === undefined ? "on" : "off";
  expect(await readSettings(pooled, "statement_timeout", "enable_seqscan")).toEqual(["0", ofSearches]);
  expect(pooled.searchSettings).toEqual(SEARCH_SETTINGS);
});

test.runIf(native)("outlives the backends of idle connections", async () => {
  await using database = await openTestDatabase();
  await using other = await reopen(database.url, "");
  const { rows } = await database.pool.query("select pg_backend_pid() as pid");
  const removed = new Promise((resolve) => database.pool.once("remove", resolve));
  await other.pool.query("select pg_terminate_backend($1::int, 10000)", [rows[0].pid]);
  await removed;
  await expect(database.pool.query("select 1")).resolves.toMatchObject({ rowCount: 1 });
});

test.runIf(native)("outlives the backend of a transaction, which fails", async () => {
  await using database = await openTestDatabase();
  await using other = await reopen(database.url, "");
  const failure = await transaction(database.pool, async (client) => {
    const { rows } = await client.query("select pg_backend_pid() as pid");
    const broken = new Promise((resolve) => client.once("error", resolve));
    await other.pool.query("select pg_terminate_backend($1::int, 10000)", [rows[0].pid]);
    await broken;
    await client.query("select 1");
  }).catch((error: unknown) => error);
  expect(reasonOf(toServiceError(failure))).toBe("DATABASE_UNAVAILABLE");
  expect(database.pool.totalCount).toBe(0);
  await expect(database.pool.query("select 1")).resolves.toMatchObject({ rowCount: 1 });
});
