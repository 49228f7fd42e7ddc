import { afterAll, beforeAll, beforeEach, expect, inject, test } from "vitest";
import { cancellable, transaction } from "../../../src/postgres/transaction.ts";
import { openTestDatabase, type TestDatabase } from "../../support/databases/database.ts";

const native = inject("template").kind === "postgres";

let database: TestDatabase;

beforeAll(async () => {
  database = await openTestDatabase();
  await database.pool.query("create table items (id int primary key)");
});

beforeEach(async () => {
  await database.pool.query("truncate items");
});

afterAll(async () => {
  await database.close();
});

async function readItems(): Promise<number[]> {
  const { rows } = await database.pool.query<{ id: number }>("select id from items order by id");
  return rows.map(({ id }) => id);
}

/** True of a pool whose clients were all released. */
function isIdle(): boolean {
  const { idleCount, totalCount, waitingCount } = database.pool;
  return idleCount === totalCount && waitingCount === 0;
}

test("commits what its work did and returns its result", async () => {
  const result = await transaction(database.pool, async (client) => {
    await client.query("insert into items values (1)");
    return "done";
  });
  expect(result).toBe("done");
  expect(await readItems()).toEqual([1]);
  expect(isIdle()).toBe(true);
});

test("undoes what its work did before it threw", async () => {
  const failure = new Error("mine");
  const work = transaction(database.pool, async (client) => {
    await client.query("insert into items values (1)");
    throw failure;
  });
  await expect(work).rejects.toBe(failure);
  expect(await readItems()).toEqual([]);
  expect(isIdle()).toBe(true);
});

test("the error of the work wins over that of the rollback, and the connection is closed", async () => {
  const failure = new Error("mine");
  const connections = database.pool.totalCount;
  const work = transaction(database.pool, async (client) => {
    await client.query("insert into items values (1)");
    await client.end();
    throw failure;
  });
  await expect(work).rejects.toBe(failure);
  expect(database.pool.totalCount).toBe(connections - 1);
  expect(await readItems()).toEqual([]);
});

test("a connection to a server that takes no writes is not handed to the next", async () => {
  const connections = database.pool.totalCount;
  const work = transaction(database.pool, async (client) => {
    await client.query("set transaction read only");
    await client.query("insert into items values (1)");
  });
  await expect(work).rejects.toMatchObject({ code: "25006" });
  expect(database.pool.totalCount).toBe(connections - 1);
  expect(isIdle()).toBe(true);
});

test("a commit that rolled back is an error", async () => {
  const work = transaction(database.pool, async (client) => {
    await client.query("insert into items values (1)");
    await client.query("insert into items values (1)").catch(() => {});
  });
  await expect(work).rejects.toThrow("rolled back");
  expect(await readItems()).toEqual([]);
  expect(isIdle()).toBe(true);
});

test("an abort before the commit rolls back", async () => {
  const controller = new AbortController();
  const work = transaction(
    database.pool,
    async (client) => {
      await client.query("insert into items values (1)");
      controller.abort(new Error("gone"));
    },
    controller.signal,
  );
  await expect(work).rejects.toThrow("gone");
  expect(await readItems()).toEqual([]);
  expect(isIdle()).toBe(true);
});

test("a transaction that was left open is not handed to the next", async () => {
  const { signal } = new AbortController();
  await cancellable(database.pool, signal, async (client) => {
    await client.query("begin");
    await client.query("insert into items values (1)");
  });
  expect(await readItems()).toEqual([]);
});

test("an aborted signal takes no connection", async () => {
  const work = cancellable(database.pool, AbortSignal.abort(new Error("gone")), () =>
    Promise.reject(new Error("ran")),
  );
  await expect(work).rejects.toThrow("gone");
});

test("an abort ends the wait for a connection, which goes to the next", async () => {
  const clients = await Promise.all(
    Array.from({ length: database.pool.options.max }, () => database.pool.connect()),
  );
  const controller = new AbortController();
  const work = cancellable(database.pool, controller.signal, () => Promise.reject(new Error("ran")));
  const next = database.pool.query("select 1");
  controller.abort(new Error("gone"));
  await expect(work).rejects.toThrow("gone");
  for (const client of clients) client.release();
  await expect(next).resolves.toMatchObject({ rowCount: 1 });
  expect(isIdle()).toBe(true);
});

test("an abort ends work that waits for something else", async () => {
  const controller = new AbortController();
  const work = cancellable(database.pool, controller.signal, async (client) => {
    await client.query("select 1");
    controller.abort(new Error("gone"));
    await new Promise(() => {});
  });
  await expect(work).rejects.toThrow("gone");
  expect(await readItems()).toEqual([]);
});

test.runIf(native)("an abort stops the statement on the server and nobody else's", async () => {
  const controller = new AbortController();
  const others = Promise.all([1, 2, 3].map(() => database.pool.query("select pg_sleep(1)")));
  const work = cancellable(database.pool, controller.signal, (client) =>
    client.query("select count(*) from generate_series(1, 1e12::bigint) as forever"),
  );
  const running =
    "select from pg_stat_activity where query like '%forever' and datname = current_database() and pid <> pg_backend_pid()";
  while ((await database.pool.query(running)).rowCount === 0);
  controller.abort(new Error("gone"));
  await expect(work).rejects.toThrow("gone");
  while ((await database.pool.query(running)).rowCount !== 0);
  await expect(others).resolves.toHaveLength(3);
  expect(isIdle()).toBe(true);
});
