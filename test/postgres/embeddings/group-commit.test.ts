import type pg from "pg";
import { expect, inject, onTestFinished, test } from "vitest";
import { GroupCommit } from "../../../src/embeddings/group-commit.ts";
import type { Insertion } from "../../../src/embeddings/insertion.ts";
import { openTestDatabase, type TestDatabase } from "../../support/databases/database.ts";

const native = inject("template").kind === "postgres";

const never = new AbortController().signal;

function insertionOf(id: string, vector = [1, 2, 3]): Insertion {
  const row = {
    id,
    content: id,
    contentBytes: id.length,
    metadata: "{}",
    vector: Float32Array.from(vector),
    createdAt: new Date(0),
  };
  return { rows: [row], embeddingModel: null, vectorParam: "embedding", check: () => {} };
}

async function open(): Promise<{ database: TestDatabase; commits: GroupCommit }> {
  const database = await openTestDatabase();
  onTestFinished(() => database.close());
  await database.pool.query("insert into vector_stores (id) values ('vs')");
  return { database, commits: new GroupCommit(database) };
}

/** Begins a transaction on a connection of its own. */
async function begin(database: TestDatabase, statement: string): Promise<pg.PoolClient> {
  const client = await database.probe.connect();
  await client.query("begin");
  await client.query(statement);
  return client;
}

async function end(client: pg.PoolClient): Promise<void> {
  await client.query("rollback");
  client.release();
}

/** Resolves when as many transactions wait for a lock. */
async function untilWaiting(database: TestDatabase, count: number): Promise<void> {
  for (let waiting = -1; waiting !== count;) {
    const { rows } = await database.probe.query(
      "select count(*)::int as waiting from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    waiting = rows[0].waiting;
  }
}

async function readIds({ pool }: TestDatabase): Promise<string[]> {
  const { rows } = await pool.query<{ id: string }>("select id from embeddings order by xmin::text::int, id");
  return rows.map(({ id }) => id);
}

async function countTransactions({ pool }: TestDatabase): Promise<number> {
  const { rows } = await pool.query("select count(distinct xmin::text)::int as count from embeddings");
  return rows[0].count;
}

test.runIf(native)("insertions that wait share the next transaction", async () => {
  const { database, commits } = await open();
  const held = await begin(database, "select 1 from vector_stores for update");
  const first = commits.insert("vs", insertionOf("first"), "", never);
  await untilWaiting(database, 1);
  const others = ["a", "b", "c", "d"].map(async (id) => commits.insert("vs", insertionOf(id), "", never));
  await end(held);
  expect(await Promise.all([first, ...others])).toEqual([true, true, true, true, true]);
  expect(await countTransactions(database)).toBe(2);
});

test.runIf(native)("one who leaves takes nobody along", async () => {
  const { database, commits } = await open();
  const held = await begin(database, "select 1 from vector_stores for update");
  const leaves = new AbortController();
  // All of them are in the transaction that waits for the lock.
  const [stays, gone] = ["stays", "gone"].map(async (id) =>
    commits.insert("vs", insertionOf(id), "", id === "gone" ? leaves.signal : never),
  );
  await untilWaiting(database, 1);
  const queued = commits.insert("vs", insertionOf("queued"), "", leaves.signal);
  leaves.abort(new Error("left"));
  await expect(gone).rejects.toThrow("left");
  await expect(queued).rejects.toThrow("left");
  await end(held);
  expect(await stays).toBe(true);
  expect(await readIds(database)).toEqual(["gone", "stays"]);
});

test.runIf(native)("a transaction that all have left ends", async () => {
  const { database, commits } = await open();
  const held = await begin(database, "select 1 from vector_stores for update");
  const leave = new AbortController();
  const calls = ["a", "b"].map(async (id) => commits.insert("vs", insertionOf(id), "", leave.signal));
  await untilWaiting(database, 1);
  leave.abort(new Error("left"));
  for (const call of calls) await expect(call).rejects.toThrow("left");
  await untilWaiting(database, 0);
  await end(held);
  expect(await commits.insert("vs", insertionOf("next"), "", never)).toBe(true);
  expect(await readIds(database)).toEqual(["next"]);
});

test.runIf(native)("an id that an open transaction has inserted holds up nobody else", async () => {
  const { database, commits } = await open();
  const insert =
    "insert into embeddings (vector_store_id, id, content, embedding) values ('vs', 'x', '', '[1,2,3]')";
  const held = await begin(database, insert);
  const blocked = commits.insert("vs", insertionOf("x"), "", never);
  const others = ["a", "b"].map(async (id) => commits.insert("vs", insertionOf(id), "", never));
  expect(await Promise.all(others)).toEqual([true, true]);
  await untilWaiting(database, 1);
  await end(held);
  expect(await blocked).toBe(true);
});

test("a taken id fails one insertion, and a repeated one within a transaction too", async () => {
  const { database, commits } = await open();
  await commits.insert("vs", insertionOf("taken"), "", never);
  const ids = ["a", "taken", "b", "twice", "c", "twice"];
  const outcomes = await Promise.all(ids.map(async (id) => commits.insert("vs", insertionOf(id), "", never)));
  expect(outcomes).toEqual([true, false, true, true, true, false]);
  const { rows } = await database.pool.query("select embedding_count::int as count from vector_stores");
  expect(rows).toEqual([{ count: 5 }]);
});

test("first vectors of several dimensions at the same time fix those of one", async () => {
  const { database, commits } = await open();
  const outcomes = await Promise.allSettled(
    ["a", "b", "c", "d"].map(async (id, index) =>
      commits.insert("vs", insertionOf(id, index % 2 === 0 ? [1, 2, 3] : [1, 2]), "", never),
    ),
  );
  const { rows } = await database.pool.query(
    "select dimensions, embedding_count::int as count from vector_stores",
  );
  expect(rows).toEqual([{ dimensions: 3, count: 2 }]);
  expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected", "fulfilled", "rejected"]);
});

test.runIf(native)("callers take turns", async () => {
  const { database, commits } = await open();
  const held = await begin(database, "select 1 from vector_stores for update");
  const first = commits.insert("vs", insertionOf("first"), "", never);
  await untilWaiting(database, 1);
  const loud = Array.from({ length: 200 }, async (_, n) =>
    commits.insert("vs", insertionOf(`loud${n}`), "loud", never),
  );
  const quiet = commits.insert("vs", insertionOf("quiet"), "quiet", never);
  await end(held);
  await Promise.all([first, quiet, ...loud]);
  const transactions = await database.pool.query<{ ids: string[] }>(
    "select array_agg(id) as ids from embeddings group by xmin::text::int order by xmin::text::int",
  );
  // A transaction takes at most 128 rows.
  expect(transactions.rows.map(({ ids }) => ids.length)).toEqual([1, 128, 73]);
  expect(transactions.rows[1]?.ids).toContain("quiet");
});

test("what has changed in a store since its last insertion is noticed", async () => {
  const { database, commits } = await open();
  const { pool } = database;
  const insert = async (id: string, vector?: number[]) =>
    commits.insert("vs", insertionOf(id, vector), "", never);
  expect(await insert("first")).toBe(true);
  expect(await insert("second")).toBe(true);

  await pool.query("create table own (like embeddings including all) inherits (embeddings)");
  await pool.query("update vector_stores set own_table = 'own'");
  expect(await insert("moved")).toBe(true);
  expect(await insert("moved too")).toBe(true);
  const { rows } = await pool.query("select id from only own order by id");
  expect(rows).toEqual([{ id: "moved" }, { id: "moved too" }]);

  await pool.query("drop table own");
  await pool.query("delete from embeddings");
  await pool.query("delete from vector_stores");
  await expect(insert("gone")).rejects.toThrow("No vector store found");
  await pool.query("insert into vector_stores (id) values ('vs')");
  expect(await insert("other dimensions", [1, 2])).toBe(true);
  await expect(insert("former dimensions", [1, 2, 3])).rejects.toThrow("holds vectors of 2 dimensions");

  await pool.query("update vector_stores set expires_at = now() - interval '1 second'");
  await expect(insert("late", [1, 2])).rejects.toThrow("has expired");
  expect(await readIds(database)).toEqual(["other dimensions"]);
});
