import { execFileSync } from "node:child_process";
import { openAsBlob } from "node:fs";
import { mkdtemp, rm, statfs, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OpenAI } from "openai";
import { afterAll, expect, inject, test } from "vitest";
import { reasonOf } from "../../src/errors.ts";
import type { Database } from "../../src/postgres/database.ts";
import { openEmbedded } from "../../src/postgres/embedded/embedded.ts";
import { toServiceError } from "../../src/postgres/errors.ts";
import { quoteTables } from "../../src/postgres/tables.ts";
import { startServer } from "../support/servers/server.ts";
import { TEST_LIMITS } from "../support/databases/template.ts";

const MIB = 1024 * 1024;

const directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
afterAll(() => rm(directory, { recursive: true }));

async function open(path: string, diskReserveBytes: number) {
  const template = inject("template");
  const snapshot = template.kind === "embedded" ? await openAsBlob(template.migrated) : undefined;
  return openEmbedded({ directory: path, snapshot, diskReserveBytes, ...TEST_LIMITS });
}

async function reopen(path: string, diskReserveBytes: number) {
  return openEmbedded({ directory: path, diskReserveBytes, ...TEST_LIMITS });
}

const embedded = inject("template").kind === "embedded";

test.runIf(embedded)("a new database is refused where the disk has no room for it", async () => {
  await expect(open(join(directory, "new"), Number.MAX_SAFE_INTEGER)).rejects.toThrow(
    /^The disk of the data directory .* has \d+ MiB free, and a new database needs \d+ MiB\.$/,
  );
});

test.runIf(embedded)("below the reserve writes are refused, and all else is answered", async () => {
  const path = join(directory, "low");
  const before = await open(path, 0);
  const id = "vs_0123456789abcdef0123456789abcdef";
  await before.pool.query("insert into vector_stores (id) values ($1)", [id]);
  await before.close();
  const { pool, close } = await reopen(path, Number.MAX_SAFE_INTEGER);
  const database: Database = {
    pool,
    probe: pool,
    tables: quoteTables({}),
    kind: "embedded",
    description: "a test",
    schema: undefined,
    close,
  };
  {
    await using server = await startServer({ database });
    const client = new OpenAI({ apiKey: "any", baseURL: `${server.url}/v1`, maxRetries: 0 });
    await expect(client.vectorStores.create({ name: "More" })).rejects.toMatchObject({
      status: 503,
      code: "database_unavailable",
      message: "503 The database has no room on its disk at the moment.",
    });
    const page = await client.vectorStores.search(id, { query: "anything" });
    expect(page.data).toEqual([]);
    const statuses = await Promise.all(
      ["livez", "readyz"].map(async (route) => (await fetch(`${server.url}/${route}`)).status),
    );
    expect(statuses).toEqual([200, 200]);
  }
  await close();
});

/** A disk of 200 MiB in memory; undefined where this process may not mount one. */
async function mountDisk() {
  const path = await mkdtemp(join(tmpdir(), "pgquiver-disk-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${200 * MIB}`, "tmpfs", path], { stdio: "ignore" });
  } catch {
    await rm(path, { recursive: true });
    return undefined;
  }
  const ballast = join(path, "ballast");
  return {
    path: join(path, "data"),
    /** Leaves so many bytes free. */
    async fill(freeBytes: number) {
      await rm(ballast, { force: true });
      const { bavail, bsize } = await statfs(path);
      await writeFile(ballast, Buffer.alloc(bavail * bsize - freeBytes));
    },
    clear: () => rm(ballast),
    async [Symbol.asyncDispose]() {
      // Lazily: a database that has stopped leaves its files open.
      execFileSync("umount", ["-l", path]);
      await rm(path, { recursive: true });
    },
  };
}

const canMount =
  embedded &&
  (await mountDisk().then(async (disk) => {
    await disk?.[Symbol.asyncDispose]();
    return disk !== undefined;
  }));

test.runIf(canMount)("a transaction under way may read and not write when the disk fills up", async () => {
  const disk = await mountDisk();
  if (disk === undefined) throw new Error("The disk cannot be mounted.");
  await using _disk = disk;
  const { pool, close } = await open(disk.path, 32 * MIB);
  const client = await pool.connect();
  const add = (id: string) => client.query("insert into vector_stores (id) values ($1)", [id]);
  await client.query("begin");
  await add("first");
  await disk.fill(16 * MIB);
  expect((await client.query("select id from vector_stores")).rows).toEqual([{ id: "first" }]);
  await expect(add("second")).rejects.toMatchObject({ code: "53100" });
  await client.query("rollback");
  await expect(add("third")).rejects.toMatchObject({ code: "53100" });
  await disk.clear();
  await add("fourth");
  expect((await client.query("select id from vector_stores")).rows).toEqual([{ id: "fourth" }]);
  client.release();
  await close();
});

test.runIf(canMount)("a disk full in spite of the reserve stops the database, not the process", async () => {
  const disk = await mountDisk();
  if (disk === undefined) throw new Error("The disk cannot be mounted.");
  await using _disk = disk;
  const { pool, close } = await open(disk.path, 0);
  await disk.fill(2 * MIB);
  const failures: unknown[] = [];
  let written = 0;
  await pool.query("insert into vector_stores (id) values ('kept')");
  // What is written is a message in the log and nothing else: the files of tables need no room.
  while (failures.length < 2) {
    await pool
      .query("select pg_logical_emit_message(true, 'test', repeat(md5($1), 10000))", [String(written)])
      .then(
        () => written++,
        (error: unknown) => failures.push(error),
      );
  }
  expect(failures.map((error) => String(error))).toEqual([
    expect.stringMatching(/^Error: The disk of .* is full, and the database has stopped/),
    expect.stringMatching(/^Error: The disk of .* is full, and the database has stopped/),
  ]);
  expect(reasonOf(toServiceError(failures[0]))).toBe("DATABASE_UNAVAILABLE");
  await close();
  await expect(reopen(disk.path, 32 * MIB)).rejects.toThrow(
    /^The disk of the data directory .* too little to open/,
  );
  await disk.clear();
  const after = await reopen(disk.path, 32 * MIB);
  expect((await after.pool.query("select id from vector_stores")).rows).toEqual([{ id: "kept" }]);
  await after.close();
});
