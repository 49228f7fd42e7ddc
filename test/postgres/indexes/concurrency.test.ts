import { afterAll, expect, onTestFinished, test, vi } from "vitest";
import { seededRandom } from "../../../scripts/crash/random.ts";
import { InsufficientPrivilege } from "../../../src/indexes/table.ts";
import { dropOwnTable, lockIndex } from "../../../src/indexes/removal.ts";
import { promoteStore, startIndexWorker } from "../../../src/indexes/worker.ts";
import { lockShared, placementLock } from "../../../src/postgres/advisory.ts";
import { Servers } from "../../../src/postgres/connection/servers.ts";
import { transaction } from "../../../src/postgres/transaction.ts";
import { openForWriting } from "../../../src/storage/placement.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import {
  allEmbeddings,
  countByTable,
  findIndex,
  findLeftovers,
  seedStore,
  setPolicy,
  startTestWorker,
  TEST_INDEXES,
} from "../../support/stores/index-store.ts";
import { readTexts, removeTexts, writeTexts, type Texts } from "../../support/databases/placed-rows.ts";

const database = await openTestDatabase();
afterAll(() => database.close());
const { pool, tables } = database;
const isNative = database.kind === "postgres";

const untilState = (id: string, state: string) =>
  vi.waitFor(async () => expect(await findIndex(database, id)).toMatchObject({ index_state: state }), {
    timeout: 60_000,
    interval: 10,
  });

async function countRows(id: string): Promise<unknown> {
  return (await pool.query("select embedding_count::int as count from vector_stores where id = $1", [id]))
    .rows[0].count;
}

test("loses and doubles no row that is written while a store gets its table and its index", async () => {
  const random = seededRandom(4);
  const id = "busy";
  await seedStore(database, id, 500);
  const model = await readTexts(database, id);
  const worker = startTestWorker(database);
  await setPolicy(database, id, "always");
  let isReady = false;
  const ready = untilState(id, "ready").then(() => (isReady = true));
  // Each writer has rows of its own, so that the order of its writes is that of the model.
  const write = async (writer: number) => {
    while (!isReady) {
      const ids = Array.from(
        { length: random.integer(1, 20) },
        () => `e${writer + 4 * random.integer(0, 150)}`,
      );
      if (random.chance(0.3)) {
        await removeTexts(database, id, ids);
        for (const key of ids) model.delete(key);
      } else {
        const texts: Texts = new Map(ids.map((key) => [key, `text ${random.integer(0, 1e9)}`]));
        await writeTexts(database, id, texts);
        for (const [key, text] of texts) model.set(key, text);
      }
    }
  };
  await Promise.all([ready, ...[0, 1, 2, 3].slice(0, isNative ? 4 : 1).map(write)]);
  await worker.stop();
  expect(Object.fromEntries(await readTexts(database, id))).toEqual(Object.fromEntries(model));
  expect(await countRows(id)).toBe(model.size);
  expect(worker.errors).toEqual([]);
  const { own_table: table } = await findIndex(database, id);
  expect(await countByTable(database, id)).toEqual({ [String(table)]: model.size });
});

test.runIf(isNative)("waits for a writer that began before the copy and ends after it", async () => {
  const id = "slow writer";
  await seedStore(database, id, 100);
  const writing = Promise.withResolvers<void>();
  const mayCommit = Promise.withResolvers<void>();
  const slow = transaction(pool, async (client) => {
    const placed = await openForWriting(client, tables, id);
    await client.query(
      `update only ${placed?.embeddings} set content = 'late' where vector_store_id = $1 and id = 'e7'`,
      [id],
    );
    await client.query(`insert into ${placed?.embeddings} values ($1, 'a', 'late', '[1,2,3]')`, [id]);
    await client.query(`delete from only ${placed?.embeddings} where vector_store_id = $1 and id = 'e8'`, [
      id,
    ]);
    writing.resolve();
    await mayCommit.promise;
  });
  await writing.promise;
  const worker = startTestWorker(database);
  await setPolicy(database, id, "always");
  await vi.waitFor(
    async () => {
      const { rows } = await pool.query(
        "select phase, retry_at from pgquiver_indexes where vector_store_id = $1",
        [id],
      );
      // The switch has been tried, and put off.
      expect(rows).toEqual([{ phase: "following", retry_at: expect.any(Date) }]);
    },
    { timeout: 60_000 },
  );
  expect(await findIndex(database, id)).toMatchObject({ own_table: null, index_state: "moving" });
  mayCommit.resolve();
  await slow;
  await untilState(id, "ready");
  const texts = await readTexts(database, id);
  expect({ size: texts.size, e7: texts.get("e7"), a: texts.get("a"), e8: texts.get("e8") }).toEqual({
    size: 100,
    e7: "late",
    a: "late",
    e8: undefined,
  });
  expect(worker.errors).toEqual([]);
});

test.runIf(isNative)("copies what was changed in a subtransaction, too", async () => {
  const id = "savepoints";
  await seedStore(database, id, 50);
  const worker = startTestWorker(database);
  const other = await pool.connect();
  await other.query("begin");
  await lockShared(other, tables, placementLock(id));
  await setPolicy(database, id, "always");
  await vi.waitFor(
    async () =>
      expect(
        (await pool.query("select phase from pgquiver_indexes where vector_store_id = $1", [id])).rows,
      ).toEqual([{ phase: "following" }]),
    60_000,
  );
  await other.query("savepoint a");
  await other.query("update embeddings set content = 'inner' where vector_store_id = $1 and id = 'e1'", [id]);
  await other.query("release a");
  await other.query("commit");
  other.release();
  await untilState(id, "ready");
  expect((await readTexts(database, id)).get("e1")).toBe("inner");
  expect(worker.errors).toEqual([]);
});

test.runIf(isNative)(
  "never lets SQL over the shared table see a row twice, or a part of the rows",
  async () => {
    const id = "watched";
    await seedStore(database, id, 3_000);
    startTestWorker(database);
    await setPolicy(database, id, "always");
    const seen = new Set<number>();
    let isReady = false;
    const ready = untilState(id, "ready").then(() => (isReady = true));
    while (!isReady) {
      const { rows } = await pool.query(
        `select count(*)::int as count from ${allEmbeddings(database)} where vector_store_id = $1`,
        [id],
      );
      seen.add(rows[0].count);
    }
    await ready;
    // None at all is what a statement sees that was planned before the table became a child and run after.
    expect([...seen].filter((count) => count !== 0)).toEqual([3_000]);
  },
);

async function deleteStore(id: string): Promise<void> {
  await transaction(pool, async (client) => {
    await openForWriting(client, tables, id);
    await lockIndex(client, tables, id);
    await client.query("delete from vector_stores where id = $1", [id]);
    await client.query(`delete from only ${tables.embeddings} where vector_store_id = $1`, [id]);
    await dropOwnTable(client, tables, id);
  });
}

test("leaves nothing of a store that is deleted at any moment", async () => {
  const before = await findLeftovers(database);
  const worker = startTestWorker(database);
  for (let trial = 0; trial < (isNative ? 30 : 8); trial++) {
    const id = `deleted ${trial}`;
    await seedStore(database, id, 200);
    await setPolicy(database, id, "always");
    worker.wake();
    await new Promise((resolve) => setTimeout(resolve, trial * 4));
    await deleteStore(id);
  }
  await vi.waitFor(
    async () => expect((await pool.query("select from pgquiver_indexes where due")).rowCount).toBe(0),
    60_000,
  );
  expect(await findLeftovers(database)).toEqual(before);
  expect((await pool.query("select from embeddings where vector_store_id like 'deleted %'")).rowCount).toBe(
    0,
  );
  expect(worker.errors).toEqual([]);
});

test.runIf(isNative)("deletes a store whose table is in use, and drops the table afterwards", async () => {
  const id = "in use";
  await seedStore(database, id, 10);
  await promoteStore(database, id, TEST_INDEXES);
  const { own_table: table } = await findIndex(database, id);
  const reader = await pool.connect();
  await reader.query("begin");
  await reader.query(`select from "${table}"`);
  await deleteStore(id);
  expect(await findIndex(database, id)).toBeUndefined();
  // On a node of a cluster a build waits for all transactions that are open there, in whatever table.
  if (database.citus !== undefined) await reader.query("commit");
  // A store of the same id may come before the table is gone.
  await seedStore(database, id, 5);
  await promoteStore(database, id, TEST_INDEXES);
  expect((await findIndex(database, id)).own_table).not.toBe(table);
  const worker = startTestWorker(database);
  if (database.citus === undefined) await reader.query("commit");
  reader.release();
  await vi.waitFor(async () => expect((await findLeftovers(database)).tables).not.toContain(table), {
    timeout: 60_000,
  });
  expect((await readTexts(database, id)).size).toBe(5);
  expect(worker.errors).toEqual([]);
});

test.runIf(isNative)("stops a build that is no longer wanted, without ado", async () => {
  const id = "unwanted";
  await seedStore(database, id, 500);
  const worker = startTestWorker(database);
  // A transaction that is older than the build keeps it from its end.
  const old = await pool.connect();
  onTestFinished(async () => old.release());
  await old.query("begin isolation level repeatable read");
  await old.query("select from vector_stores");
  await setPolicy(database, id, "always");
  await vi.waitFor(
    async () =>
      expect(
        (
          await pool.query(
            "select phase from pg_stat_progress_create_index where datname = current_database()",
          )
        ).rows,
      ).toEqual([{ phase: expect.stringMatching(/^waiting for/) }]),
    { timeout: 60_000 },
  );
  await setPolicy(database, id, "never");
  await untilState(id, "none");
  await old.query("commit");
  // The state is committed before the index is dropped.
  await expect
    .poll(async () => (await findLeftovers(database)).indexes.filter((name) => name.endsWith("(invalid)")))
    .toEqual([]);
  expect(worker.errors).toEqual([]);
});

test.runIf(isNative)("serves a role that may not create tables, and says so", async () => {
  const id = "poor";
  await seedStore(database, id, 10);
  const role = `poor_${Date.now()}`;
  await pool.query(`create role ${role} login`);
  onTestFinished(async () => {
    await pool.query(`drop owned by ${role}; drop role ${role}`);
  });
  await pool.query(`revoke create on schema public from public`);
  await pool.query(`grant select, insert, update, delete on all tables in schema public to ${role}`);
  await pool.query(`grant usage on all sequences in schema public to ${role}`);
  const url = Object.assign(new URL(String(database.url)), { username: role }).href;
  const direct = { ...database.direct, servers: new Servers([url], "any") };
  const errors: unknown[] = [];
  const { stop } = startIndexWorker({ ...database, direct }, TEST_INDEXES, (error) => errors.push(error));
  onTestFinished(stop);
  await setPolicy(database, id, "always");
  await untilState(id, "failed");
  expect(await findIndex(database, id)).toMatchObject({
    last_error: `The role lacks privileges that a store needs for its own table: grant create on schema public to ${role}; alter table embeddings owner to ${role};`,
    own_table: null,
    attempts: 1,
  });
  expect(
    (
      await pool.query(
        "select retry_at > now() + interval '50 minutes' as later from pgquiver_indexes where vector_store_id = $1",
        [id],
      )
    ).rows,
  ).toEqual([{ later: true }]);
  expect(errors).toEqual([expect.any(InsufficientPrivilege)]);
});
