import { randomUUID } from "node:crypto";
import { pino } from "pino";
import { describe, expect, inject, onTestFinished, test } from "vitest";
import { createApplication } from "../../src/application.ts";
import { readConfig } from "../../src/config.ts";
import { diagnose } from "../../src/diagnostics/diagnose.ts";
import { createLexicalEmbedder } from "../../src/models/lexical.ts";
import type { Database } from "../../src/postgres/database.ts";
import { migrate } from "../../src/postgres/migrations/migrate.ts";
import { openDatabase } from "../../src/postgres/connection/pool.ts";
import { installRowSecurity } from "../../src/postgres/row-security/install.ts";
import { RowSecurity } from "../../src/postgres/row-security/row-security.ts";
import { quoteTables } from "../../src/postgres/tables.ts";
import { openEmptyDatabase, openTestDatabase, type TestDatabase } from "../support/databases/database.ts";
import { makeProject } from "../support/stores/keys.ts";
import { TEST_LIMITS } from "../support/databases/template.ts";

/** Opens the database as another login, which is dropped after the test, together with its role of calls. */
async function openAs(own: TestDatabase, login: string, schemaOwner: boolean): Promise<Database> {
  await own.pool.query(`create role ${login} login nosuperuser`);
  if (schemaOwner) await own.pool.query(`alter schema public owner to ${login}`);
  const url = Object.assign(new URL(String(own.url)), { username: login }).href;
  const database = await openDatabase({ url, tables: quoteTables({}), ...TEST_LIMITS });
  onTestFinished(async () => {
    await database.close();
    if (schemaOwner) await own.pool.query("alter schema public owner to pg_database_owner");
    await own.pool.query(`drop owned by ${login} cascade`);
    const { rows } = await own.pool.query("select from pg_roles where rolname = $1", [`${login}_calls`]);
    if (rows.length > 0) await own.pool.query(`drop owned by ${login}_calls; drop role ${login}_calls`);
    await own.pool.query(`drop role ${login}`);
    await own.close();
  });
  return database;
}

function makeLog() {
  const lines: string[] = [];
  return { lines, info: () => {}, warn: (line: string) => lines.push(line) };
}

async function check(database: Database) {
  const settings = { isWorking: true, thresholdBytes: 0, memoryBytes: 1e9, workers: 0 };
  const found = await diagnose(database, settings, AbortSignal.timeout(20_000));
  return found.find((one) => one.check === "row_security");
}

const native = inject("template").kind === "postgres";

describe.runIf(native)("a login that may not make roles", () => {
  test("serves without the second line and says once what to run, which then is enough", async () => {
    const own = await openEmptyDatabase();
    await own.pool.query("create extension if not exists vector");
    const login = `app_${randomUUID().slice(0, 8)}`;
    const database = await openAs(own, login, true);
    await migrate(database);
    expect(await check(database)).toMatchObject({
      severity: "ok",
      message: expect.stringContaining("one project"),
    });
    await makeProject(database);
    const log = makeLog();
    expect((await RowSecurity.open(database, "auto", log)).role).toBeUndefined();
    const remedy = `create role "${login}_calls" nologin; grant "${login}_calls" to "${login}"`;
    expect(log.lines).toEqual([expect.stringContaining(remedy)]);
    expect(await check(database)).toMatchObject({
      severity: "warning",
      remedy: expect.stringContaining(remedy),
    });
    const config = { ...readConfig({ ROW_LEVEL_SECURITY: "on" }), port: undefined };
    await expect(
      createApplication(database, createLexicalEmbedder(), config, pino({ level: "silent" })),
    ).rejects.toThrow(`may not make, or not use, the role ${login}_calls`);

    const [, statements] = /run: (.*)$/.exec((await check(database))?.remedy ?? "") ?? [];
    await own.pool.query(String(statements));
    const next = await RowSecurity.open(database, "on", log);
    expect(next.role).toBe(`${login}_calls`);
    expect(await check(database)).toMatchObject({
      severity: "ok",
      message: expect.stringContaining("keeps the rows"),
    });
    // Everything is there: a login that owns nothing may use it, and nothing is locked by a start.
    const before = await own.pool.query("select xmin::text, polname from pg_policy order by 2, 1");
    await RowSecurity.open(database, "on", log);
    expect((await own.pool.query("select xmin::text, polname from pg_policy order by 2, 1")).rows).toEqual(
      before.rows,
    );
  });

  test("that only reads the tables sees what it saw before", async () => {
    const own = await openTestDatabase();
    const login = `analyst_${randomUUID().slice(0, 8)}`;
    const reader = await openAs(own, login, false);
    await own.pool.query("insert into vector_stores (id) values ('faq')");
    await own.pool.query(`grant select on vector_stores to ${login}`);
    await installRowSecurity(own);
    expect((await reader.pool.query("select id from vector_stores")).rows).toEqual([{ id: "faq" }]);
    await expect(reader.pool.query(`set role "postgres_calls"`)).rejects.toThrow("permission denied");
  });
});

test("triggers and policies of others keep it off", async () => {
  await using database = await openTestDatabase();
  const { pool } = database;
  await makeProject(database);
  await pool.query("create function noted() returns trigger language plpgsql as 'begin return new; end'");
  await pool.query(
    "create trigger noted before insert on vector_stores for each row execute function noted()",
  );
  await expect(installRowSecurity(database)).rejects.toThrow("noted on vector_stores");
  await pool.query("drop trigger noted on vector_stores");
  await pool.query("create policy theirs on embeddings using (true)");
  await expect(installRowSecurity(database)).rejects.toThrow("theirs on embeddings");
  expect(await check(database)).toMatchObject({
    severity: "warning",
    message: expect.stringContaining("theirs"),
  });
  await pool.query("drop policy theirs on embeddings");
  await installRowSecurity(database);
});

test("what a restored dump has lost comes back", async () => {
  await using database = await openTestDatabase();
  const { pool } = database;
  await makeProject(database);
  const role = await installRowSecurity(database);
  // As in another cluster, where the role did not exist when the dump was restored.
  await pool.query(`drop policy pgquiver_calls on vector_stores; revoke all on vector_stores from "${role}"`);
  await pool.query("alter table pgquiver_files disable row level security");
  expect(await check(database)).toMatchObject({ severity: "warning" });
  await installRowSecurity(database);
  expect(await check(database)).toMatchObject({ severity: "ok" });
});

test("processes that start together install it once", async () => {
  await using database = await openEmptyDatabase();
  await migrate(database);
  const roles = await Promise.all(Array.from({ length: 4 }, async () => installRowSecurity(database)));
  expect(new Set(roles).size).toBe(1);
  await makeProject(database);
  expect(await check(database)).toMatchObject({ severity: "ok" });
});

test("a service with one project leaves the tables alone, and switches it on after the second was made", async () => {
  await using database = await openTestDatabase();
  const { pool } = database;
  await pool.query("alter table vector_stores disable row level security");
  const log = makeLog();
  const security = await RowSecurity.open(database, "auto", log);
  expect(security.role).toBeUndefined();
  const isOn = async () =>
    (await pool.query("select relrowsecurity as is_on from pg_class where oid = 'vector_stores'::regclass"))
      .rows[0].is_on;
  expect(await isOn()).toBe(false);
  await makeProject(database);
  await expect.poll(() => security.role, { timeout: 20_000 }).toMatch(/_calls$/);
  expect(await isOn()).toBe(true);
  await security.stop();
});

test.runIf(native)("it is installed while others write, whom it lets go first", async () => {
  await using database = await openTestDatabase();
  const { pool } = database;
  await pool.query("alter table vector_stores disable row level security");
  const writer = await pool.connect();
  await writer.query("begin; insert into vector_stores (id) values ('open')");
  const installed = installRowSecurity(database);
  // Readers queue behind a waiting lock for no longer than one try.
  const waits: number[] = [];
  for (const untilMs = performance.now() + 1_500; performance.now() < untilMs;) {
    const startedAt = performance.now();
    await pool.query("select from vector_stores");
    waits.push(performance.now() - startedAt);
  }
  await writer.query("commit");
  writer.release();
  await installed;
  expect(Math.max(...waits)).toBeLessThan(1_200);
});
