import { once } from "node:events";
import type pg from "pg";
import { afterAll, expect, onTestFinished, test, vi } from "vitest";
import { runExclusively } from "../../../src/postgres/exclusive.ts";
import { openDatabase } from "../../../src/postgres/connection/pool.ts";
import { quoteTables } from "../../../src/postgres/tables.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

const database = await openTestDatabase();
afterAll(() => database.close());

/** Work that counts how many run, holds on until its signal aborts, and tells which server process has the lock. */
function counted() {
  const running = new Set<string>();
  const pids = new Map<string, number>();
  let most = 0;
  const work = (name: string) => async (pool: pg.Pool, signal: AbortSignal) => {
    running.add(name);
    most = Math.max(most, running.size);
    pids.set(name, (await pool.query("select pg_backend_pid() as pid")).rows[0].pid);
    if (!signal.aborted) await once(signal, "abort");
    running.delete(name);
  };
  return { running, pids, work, most: () => most };
}

function start(name: string, work: (pool: pg.Pool, signal: AbortSignal) => Promise<void>, lock = "tests") {
  const errors: unknown[] = [];
  const { stop } = runExclusively(database, lock, work, {
    retryMs: 20,
    report: (error) => errors.push(error),
  });
  onTestFinished(stop);
  return { name, errors, stop };
}

test("ends the work when it is stopped, and gives the connection back", async () => {
  const { running, work } = counted();
  const one = start("one", work("one"));
  await vi.waitFor(() => expect(running.size).toBe(1), 60_000);
  await one.stop();
  expect(running.size).toBe(0);
  expect(one.errors).toEqual([]);
  expect(database.pool.idleCount).toBe(database.pool.totalCount);
});

test("begins work again that has failed, and reports why", async () => {
  let times = 0;
  const one = start("one", async () => {
    times++;
    throw new Error(`failure ${times}`);
  });
  await vi.waitFor(() => expect(times).toBeGreaterThan(2), 60_000);
  await one.stop();
  expect(one.errors.slice(0, 2)).toEqual([new Error("failure 1"), new Error("failure 2")]);
});

test.runIf(database.kind === "postgres")("lets one process work at a time", async () => {
  const { running, work, most } = counted();
  const workers = ["one", "two", "three"].map((name) => start(name, work(name)));
  for (let left = workers.length; left > 0; left--) {
    await vi.waitFor(() => expect(running.size).toBe(1), 60_000);
    const [name] = running;
    const worker = workers.find((candidate) => candidate.name === name);
    await worker?.stop();
    expect(running.has(String(name))).toBe(false);
  }
  expect(most()).toBe(1);
  expect(workers.flatMap(({ errors }) => errors)).toEqual([]);
});

test.runIf(database.kind === "postgres")("does different work at the same time", async () => {
  const { running, work } = counted();
  start("one", work("one"), "tests");
  start("two", work("two"), "other tests");
  await vi.waitFor(() => expect(running.size).toBe(2), 60_000);
});

test.runIf(database.kind === "postgres")(
  "aborts the work when its connection breaks, and another process goes on",
  async () => {
    const { running, pids, work } = counted();
    for (const name of ["one", "two"]) start(name, work(name));
    for (let round = 0; round < 5; round++) {
      await vi.waitFor(() => expect(running.size).toBe(1), 60_000);
      const [name] = running;
      const pid = await vi.waitFor(() => {
        const found = pids.get(String(name));
        expect(found).toBeDefined();
        return found;
      }, 60_000);
      pids.clear();
      await database.pool.query("select pg_terminate_backend($1::int)", [pid]);
      await vi.waitFor(() => expect(pids.size).toBe(1), 60_000);
      // One that has not heard of its loss yet still runs, and can do nothing: see the next test.
    }
  },
);

test.runIf(database.kind === "postgres")(
  "lets no statement of the work pass once the connection is lost",
  async () => {
    const outcome = Promise.withResolvers<unknown>();
    start("one", async (pool, signal) => {
      const { pid } = (await pool.query("select pg_backend_pid() as pid")).rows[0];
      await database.pool.query("select pg_terminate_backend($1::int)", [pid]);
      if (!signal.aborted) await once(signal, "abort");
      outcome.resolve(await pool.query("select 1").catch((error: unknown) => error));
    });
    expect(await outcome.promise).toBeInstanceOf(Error);
  },
);

test.runIf(database.kind === "postgres")(
  "says once that it cannot work through PgBouncer alone",
  async () => {
    const behind = await openDatabase({
      url: `${database.url}?pgbouncer=true`,
      tables: quoteTables({}),
      ...TEST_LIMITS,
    });
    const errors: unknown[] = [];
    const ran = vi.fn<() => Promise<void>>();
    const work = runExclusively(behind, "tests", ran, { retryMs: 1, report: (error) => errors.push(error) });
    await work.stop();
    await behind.close();
    expect(errors).toEqual([
      new Error(
        "The tests are off: they need a session-level advisory lock, which PgBouncer in transaction mode does not support. Set DATABASE_DIRECT_URL to the Postgres server itself.",
      ),
    ]);
    expect(ran).not.toHaveBeenCalled();
  },
);

test.runIf(database.kind === "postgres")("works past PgBouncer with a direct URL", async () => {
  const behind = await openDatabase({
    url: `${database.url}?pgbouncer=true`,
    directUrl: String(database.url),
    tables: quoteTables({}),
    ...TEST_LIMITS,
  });
  const done = Promise.withResolvers<string>();
  const work = runExclusively(
    behind,
    "tests",
    async (pool) => done.resolve((await pool.query("show statement_timeout")).rows[0].statement_timeout),
    { report: done.reject },
  );
  expect(await done.promise).toBe("0");
  await work.stop();
  await behind.close();
});
