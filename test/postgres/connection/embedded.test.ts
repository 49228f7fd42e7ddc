import { cp, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { from as copyFrom } from "pg-copy-streams";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { type Embedded, openEmbedded } from "../../../src/postgres/embedded/embedded.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

let directory: string;
let embedded: Embedded;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  embedded = await openEmbedded({ directory, ...TEST_LIMITS });
  await embedded.pool.query("create extension vector; create table items (id int primary key, content text)");
});

afterAll(async () => {
  await embedded.close();
  await rm(directory, { recursive: true });
});

async function readCount(): Promise<number> {
  const { rows } = await embedded.pool.query("select count(*)::int as count from items");
  return rows[0].count;
}

test("answers fifty questions at once, each with its own answer", async () => {
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, i) => embedded.pool.query("select $1::int as i", [i])),
  );
  expect(answers.map(({ rows }) => rows[0].i)).toEqual(Array.from({ length: 50 }, (_, i) => i));
});

test("a statement that fails does not fail the next", async () => {
  await expect(embedded.pool.query("select 1 / 0")).rejects.toMatchObject({ code: "22012" });
  await expect(embedded.pool.query("select 1 / $1::int", [0])).rejects.toMatchObject({ code: "22012" });
  await expect(embedded.pool.query("select 1")).resolves.toMatchObject({ rowCount: 1 });
});

test("a prepared statement is known to its connection and not to the next", async () => {
  const named = { name: "answer", text: "select $1::int as answer", values: [42] };
  for (let i = 0; i < 3; i++) expect((await embedded.pool.query(named)).rows).toEqual([{ answer: 42 }]);
  const client = await embedded.pool.connect();
  client.release(true);
  expect((await embedded.pool.query(named)).rows).toEqual([{ answer: 42 }]);
});

test("a connection does not inherit the transaction and the settings of the one before", async () => {
  const client = await embedded.pool.connect();
  await client.query("set work_mem = '7MB'");
  await client.query("begin; insert into items values (1)");
  client.release(true);
  expect(await readCount()).toBe(0);
  const { rows } = await embedded.pool.query("show work_mem");
  expect(rows).not.toEqual([{ work_mem: "7MB" }]);
});

test("a connection closed in the middle of a statement fails it and no other", async () => {
  const client = await embedded.pool.connect();
  const statement = client.query("select count(*) from generate_series(1, 1000000)");
  client.release(true);
  await expect(statement).rejects.toThrow("Connection terminated");
  await expect(embedded.pool.query("select 1")).resolves.toMatchObject({ rowCount: 1 });
});

test("takes a COPY, or nothing of one that fails", async () => {
  const client = await embedded.pool.connect();
  const copy = async (sql: string, end: (stream: ReturnType<typeof copyFrom>) => void) => {
    const stream = client.query(copyFrom(sql));
    for (let id = 1; id <= 1_000; id++) stream.write(`${id}\tcontent ${id}\n`);
    end(stream);
    await once(stream, "finish");
  };
  const fail = async (sql: string, end: (stream: ReturnType<typeof copyFrom>) => void) =>
    copy(sql, end).catch((error: unknown) => error);
  expect(await fail("copy items from stdin", (s) => s.end("x\ty\n"))).toMatchObject({ code: "22P02" });
  expect(await fail("COPY missing FROM STDIN", (s) => s.end())).toMatchObject({ code: "42P01" });
  expect(await fail("copy items from stdin", (s) => s.destroy(new Error("mine")))).toMatchObject({
    code: "57014",
  });
  expect((await client.query("select count(*)::int from items")).rows).toEqual([{ count: 0 }]);
  await copy("copy items (id, content) from stdin", (s) => s.end());
  await client.query("delete from items where id > 7");
  client.release();
  expect(await readCount()).toBe(7);
});

test("keeps its rows from one start to the next", async () => {
  await embedded.pool.query("insert into items values (100, 'kept') on conflict do nothing");
  const before = await readCount();
  await embedded.close();
  embedded = await openEmbedded({ directory, ...TEST_LIMITS });
  expect(await readCount()).toBe(before);
});

test("a directory in use is refused, to another process too", async () => {
  await expect(openEmbedded({ directory, ...TEST_LIMITS })).rejects.toThrow(
    `is in use by process ${process.pid}`,
  );
  const module = new URL("../../../src/postgres/embedded/embedded.ts", import.meta.url).href;
  const script = `const { openEmbedded } = await import(${JSON.stringify(module)});
    await openEmbedded({ directory: ${JSON.stringify(directory)}, connectTimeoutMs: 1 });`;
  const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
    encoding: "utf8",
  });
  expect(stderr).toContain(`is in use by process ${process.pid}`);
  expect(status).toBe(1);
  await expect(embedded.pool.query("select 1")).resolves.toMatchObject({ rowCount: 1 });
});

test("a directory whose process died is taken over", async () => {
  await embedded.close();
  const { pid } = spawnSync(process.execPath, ["-e", ""]);
  await writeFile(join(directory, "pgquiver.pid"), `${pid}\n`);
  embedded = await openEmbedded({ directory, ...TEST_LIMITS });
  expect(await readFile(join(directory, "pgquiver.pid"), "utf8")).toBe(`${process.pid}\n`);
});

test("an empty lock file of Postgres, as a kill leaves it, does not stop the next start", async () => {
  await embedded.close();
  await writeFile(join(directory, "pgdata/postmaster.pid"), "");
  embedded = await openEmbedded({ directory, ...TEST_LIMITS });
  await expect(embedded.pool.query("select 1")).resolves.toMatchObject({ rowCount: 1 });
});

test("files that are damaged are told of with their directory and what to do", async () => {
  const damaged = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  onTestFinished(() => rm(damaged, { recursive: true }));
  await (await openEmbedded({ directory: damaged, ...TEST_LIMITS })).close();
  await truncate(join(damaged, "pgdata/global/pg_control"), 100);
  const message = `The embedded database in ${damaged} cannot be opened: its files are damaged or incomplete, or another`;
  await expect(openEmbedded({ directory: damaged, ...TEST_LIMITS })).rejects.toThrow(message);
  // Nor is the directory still held.
  await expect(openEmbedded({ directory: damaged, ...TEST_LIMITS })).rejects.toThrow(message);
}, 300_000);

test("what a crash left of a database that was being made is not taken for one", async () => {
  const crashed = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  onTestFinished(() => rm(crashed, { recursive: true }));
  // All that the database of this file has, but for the files of one database in it.
  const staging = join(crashed, "pgdata.new");
  await cp(join(directory, "pgdata"), staging, { recursive: true });
  await rm(join(staging, "base/5"), { recursive: true });
  const opened = await openEmbedded({ directory: crashed, ...TEST_LIMITS });
  const { rows } = await opened.pool.query("select to_regclass('items') as items");
  expect(rows).toEqual([{ items: null }]);
  await opened.close();
  expect(await readdir(crashed)).toEqual(["pgdata"]);
});

test("files in the place of a new database are left alone", async () => {
  const kept = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  onTestFinished(() => rm(kept, { recursive: true }));
  await mkdir(join(kept, "pgdata/base"), { recursive: true });
  await writeFile(join(kept, "pgdata/postgresql.conf"), "mine");
  await expect(openEmbedded({ directory: kept, ...TEST_LIMITS })).rejects.toThrow(
    `The directory ${join(kept, "pgdata")} has files but no PG_VERSION, so it is not a complete database.`,
  );
  expect(await readdir(kept, { recursive: true })).toEqual([
    "pgdata",
    "pgdata/base",
    "pgdata/postgresql.conf",
  ]);
});
