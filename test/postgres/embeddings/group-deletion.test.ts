import type pg from "pg";
import { expect, inject, onTestFinished, test } from "vitest";
import { GroupDeletion } from "../../../src/embeddings/group-deletion.ts";
import { openTestDatabase, type TestDatabase } from "../../support/databases/database.ts";

const native = inject("template").kind === "postgres";

const never = new AbortController().signal;

async function open(rows: number): Promise<{ database: TestDatabase; deletions: GroupDeletion }> {
  const database = await openTestDatabase();
  onTestFinished(() => database.close());
  await database.pool.query(
    `insert into vector_stores (id, dimensions, embedding_count, usage_bytes, file_counts)
     values ('vs', 3, $1, $2, $3)`,
    [rows, rows * 4, { in_progress: 0, completed: rows, failed: 0, cancelled: 0, total: rows }],
  );
  await database.pool.query(
    `insert into embeddings (vector_store_id, id, content, embedding, metadata, created_at)
     select 'vs', 'r' || i, 'text', '[1,2,3]', '{}', now() from generate_series(1, $1) i`,
    [rows],
  );
  return { database, deletions: new GroupDeletion(database) };
}

async function readCounts({ pool }: TestDatabase) {
  const { rows } = await pool.query(
    `select embedding_count::int as counted, usage_bytes::int as bytes, (file_counts ->> 'completed')::int as completed,
       row_changes::int as changes, (select count(*)::int from embeddings) as rows from vector_stores`,
  );
  return rows[0];
}

test("deletions that come together share transactions, each gets its own answer, and the counts are exact", async () => {
  const { database, deletions } = await open(20);
  // Each row is deleted twice, and four ids have no row: one of two gets the row, whoever comes first.
  const ids = Array.from({ length: 24 }, (_, index) => `r${index + 1}`).flatMap((id) => [id, id]);
  const outcomes = await Promise.all(ids.map((id) => deletions.delete("vs", id, never)));
  const deleted = new Map<string, number>();
  for (const [index, isDeleted] of outcomes.entries()) {
    const id = ids[index] as string;
    deleted.set(id, (deleted.get(id) ?? 0) + Number(isDeleted));
  }
  expect([...deleted.values()]).toEqual([...Array(20).fill(1), ...Array(4).fill(0)]);
  const counts = await readCounts(database);
  expect(counts).toMatchObject({ counted: 0, bytes: 0, completed: 0, rows: 0 });
  // All wait while the first gets its connection.
  expect(counts.changes).toBe(1);
});

test("deletions beyond those that may wait are refused, and delete nothing", async () => {
  const { database, deletions } = await open(0);
  const most = 50 * (database.pool.options.max ?? 0);
  const calls = Array.from({ length: most + 1 }, (_, index) => deletions.delete("vs", `r${index}`, never));
  await expect(calls.pop()).rejects.toThrow("timeout exceeded when trying to connect");
  expect(await Promise.all(calls)).toEqual(Array(most).fill(false));
});

test("a store that is not there is NOT_FOUND for every deletion, and the next one is tried anew", async () => {
  const { database, deletions } = await open(1);
  const missing = ["a", "b"].map((id) => deletions.delete("none", id, never));
  for (const { reason } of (await Promise.allSettled(missing)) as PromiseRejectedResult[])
    expect(reason.rawMessage).toMatch(/vector store.*none/i);
  await database.pool.query("insert into vector_stores (id) values ('none')");
  expect(await deletions.delete("none", "a", never)).toBe(false);
});

test.runIf(native)("a caller that leaves while it waits deletes nothing, and delays nobody", async () => {
  const { database, deletions } = await open(3);
  const holder = await database.probe.connect();
  await holder.query("begin");
  await holder.query("select 1 from vector_stores for update");
  const first = deletions.delete("vs", "r1", never);
  const left = new AbortController();
  const second = deletions.delete("vs", "r2", left.signal);
  left.abort(new Error("left"));
  await expect(second).rejects.toThrow("left");
  await holder.query("rollback");
  holder.release();
  expect(await first).toBe(true);
  expect(await deletions.delete("vs", "r3", never)).toBe(true);
  expect(await readCounts(database)).toMatchObject({ counted: 1, rows: 1 });
});

/** Counts what is sent to Postgres, each time up to a ReadyForQuery, and the commits among it. */
async function countTrips({ pool }: TestDatabase, work: () => Promise<unknown>): Promise<number> {
  let trips = 0;
  const count = () => void trips++;
  const watched = new Set<pg.Connection>();
  const watch = (client: pg.PoolClient) => {
    const { connection } = client as pg.PoolClient & { connection: pg.Connection };
    watched.add(connection.on("readyForQuery", count));
  };
  pool.on("acquire", watch);
  await work();
  pool.off("acquire", watch);
  for (const connection of watched) connection.off("readyForQuery", count);
  return trips;
}

test("once the store's table is known, rows that are all there are deleted and counted in one round trip", async () => {
  const { database, deletions } = await open(10);
  await database.pool.query("update embeddings set file_id = 'file-1' where id in ('r2', 'r3')");
  await database.pool.query(
    'update vector_stores set file_counts = file_counts || \'{"completed": 8, "total": 8}\'',
  );
  expect(await deletions.delete("vs", "r1", never)).toBe(true);
  let outcomes: boolean[] = [];
  const trips = await countTrips(database, async () => {
    outcomes = await Promise.all(["r2", "r4", "r4"].map((id) => deletions.delete("vs", id, never)));
  });
  // In a cluster the parts of a statement share no snapshot, so the counts are sent apart.
  const needed = database.citus === undefined ? 1 : 3;
  expect({ outcomes, trips }).toEqual({ outcomes: [true, true, false], trips: needed });
  expect(await readCounts(database)).toMatchObject({
    counted: 7,
    rows: 7,
    bytes: 28,
    completed: 6,
    changes: 2,
  });
});

test("rows of a known store that are not there change nothing, and others in their group are deleted", async () => {
  const { database, deletions } = await open(3);
  await deletions.delete("vs", "r1", never);
  const outcomes = await Promise.all(["r1", "r2", "none"].map((id) => deletions.delete("vs", id, never)));
  expect(outcomes).toEqual([false, true, false]);
  expect(await readCounts(database)).toMatchObject({
    counted: 1,
    rows: 1,
    bytes: 4,
    completed: 1,
    changes: 2,
  });
});

test("a known store that has come to a table of its own, or is gone, is read anew", async () => {
  const { database, deletions } = await open(2);
  await deletions.delete("vs", "r1", never);
  await database.pool.query(
    "create table embeddings_77 (like embeddings including all) inherits (embeddings)",
  );
  await database.pool.query(
    "with moved as (delete from only embeddings returning *) insert into embeddings_77 select * from moved",
  );
  await database.pool.query("update vector_stores set own_table = 'embeddings_77'");
  expect(await deletions.delete("vs", "r2", never)).toBe(true);
  expect(await readCounts(database)).toMatchObject({ counted: 0, rows: 0 });
  await database.pool.query("delete from vector_stores");
  await expect(deletions.delete("vs", "r2", never)).rejects.toThrow("No vector store");
});
