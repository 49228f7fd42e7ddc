import pg from "pg";
import { afterAll, afterEach, beforeEach, describe, expect, inject, test, vi } from "vitest";
import { openTestDatabase } from "../../support/databases/database.ts";
import { grpcJs } from "../../support/clients/ingest-client.ts";
import {
  batch,
  createStore,
  expectExactCounts,
  expectNoLeak,
  makeRows,
  open,
  readIds,
} from "../../support/stores/ingest-store.ts";
import { startServer } from "../../support/servers/server.ts";

test("every row has its own vector, although the memory of messages is used again", async () => {
  await using server = await startServer();
  await using client = grpcJs.connect(server);
  const storeId = await createStore(server);
  const session = client.session();
  await session.send(open(storeId));
  const SIZE = 100;
  const BATCHES = 60;
  // Long enough for the free list.
  const rowOf = (index: number) => ({
    id: String(index),
    content: `text ${index}`,
    embedding: Array.from({ length: 300 }, () => index + 1),
  });
  let through = 0;
  for (let seq = 1; seq <= BATCHES; seq++) {
    await session.send(
      batch(
        seq,
        Array.from({ length: SIZE }, (_, index) => rowOf((seq - 1) * SIZE + index)),
      ),
    );
    // So that later messages receive the memory of those that are committed.
    if (seq % 20 === 0)
      while (through < seq - 5) through = (await session.next())?.committed?.through_seq ?? through;
  }
  await session.send({ finish: { rows: SIZE * BATCHES } });
  session.end();
  let event;
  do event = await session.next();
  while (event?.summary === undefined);
  expect(event.summary.rows_written).toBe(SIZE * BATCHES);
  const { rows } = await server.database.pool.query<{ count: string }>(
    `select count(*) from embeddings, unnest(embedding::real[]) as number
     where content = 'text ' || id and number = id::int + 1`,
  );
  expect(Number(rows[0]?.count)).toBe(SIZE * BATCHES * 300);
});

// The embedded database has one connection.
if (inject("template").kind === "postgres")
  describe("while a group cannot be committed", async () => {
    const database = await openTestDatabase();
    const server = await startServer({ database });
    const client = grpcJs.connect(server);
    const blocker = new pg.Client(database.url);
    await blocker.connect();
    afterAll(async () => {
      await blocker.end();
      await client[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
      await database.close();
    });

    let storeId: string;
    let session: ReturnType<typeof client.session>;
    beforeEach(async () => {
      storeId = await createStore(server);
      session = client.session();
      await session.send(open(storeId, { ingest_id: "one", on_error: "ON_ERROR_SKIP_ROW" }));
      await session.next();
      // The first group then waits for the store's row, after its rows were sent.
      await blocker.query("begin");
      await blocker.query("select 1 from vector_stores where id = $1 for update", [storeId]);
    });
    afterEach(async () => {
      await blocker.query("rollback");
      session.cancel();
      await expectNoLeak(server);
    });

    /** Transactions of the service by their state: `active` waits for the lock, `idle in transaction` for its turn. */
    async function countTransactions(): Promise<{ blocked: number; waiting: number }> {
      const { rows } = await server.database.pool.query<{ blocked: number; waiting: number }>(
        `select count(*) filter (where wait_event_type = 'Lock')::int as blocked,
         count(*) filter (where state = 'idle in transaction' and query ~* '^copy')::int as waiting
       from pg_stat_activity where datname = current_database() and application_name = 'pgquiver'`,
      );
      return rows[0] as { blocked: number; waiting: number };
    }
    const untilTransactions = (expected: { blocked: number; waiting: number }) =>
      vi.waitFor(async () => expect(await countTransactions()).toEqual(expected), {
        timeout: 60_000,
        interval: 5,
      });

    /** Sends two groups, the second when the first one waits. */
    async function sendTwo(second = makeRows(3, "b")): Promise<void> {
      await session.send(batch(1, makeRows(3, "a")));
      await untilTransactions({ blocked: 1, waiting: 0 });
      await session.send(batch(2, second));
    }

    test("the rows of the next group are sent, and both are acknowledged in order", async () => {
      await sendTwo();
      await untilTransactions({ blocked: 1, waiting: 1 });
      expect(await readIds(server, storeId)).toEqual([]);
      await blocker.query("rollback");
      expect(await session.next()).toMatchObject({ committed: { through_seq: 1, rows_written: 3 } });
      expect(await session.next()).toMatchObject({ committed: { through_seq: 2, rows_written: 3 } });
      await session.send({ finish: { rows: 6 } });
      expect(await session.next()).toMatchObject({ summary: { through_seq: 2, rows_written: 6 } });
      expect(await expectExactCounts(server, storeId)).toBe(6);
    });

    test("the next group gives up its transaction, which deadlocks may depend on, and is written later", async () => {
      await sendTwo();
      await untilTransactions({ blocked: 1, waiting: 1 });
      await untilTransactions({ blocked: 1, waiting: 0 });
      await blocker.query("rollback");
      expect(await session.next()).toMatchObject({ committed: { through_seq: 1 } });
      expect(await session.next()).toMatchObject({ committed: { through_seq: 2 } });
      expect(await readIds(server, storeId)).toHaveLength(6);
      expect(await expectExactCounts(server, storeId)).toBe(6);
    });

    test("a row that repeats an id of that group is refused after it, and does not wait for it", async () => {
      await sendTwo(makeRows(4, "a"));
      await blocker.query("rollback");
      expect(await session.next()).toMatchObject({ committed: { through_seq: 1, rows_written: 3 } });
      expect(await session.next()).toMatchObject({
        committed: { through_seq: 2, rows_written: 1, rows_rejected: 3 },
      });
      expect(await expectExactCounts(server, storeId)).toBe(4);
    });

    test("the next group is not committed without it", async () => {
      await sendTwo();
      await untilTransactions({ blocked: 1, waiting: 1 });
      const { ingests } = database.tables;
      await blocker.query(`update ${ingests} set state = 'aborted' where vector_store_id = $1`, [storeId]);
      await blocker.query("commit");
      await expect(session.next()).rejects.toMatchObject({ reason: "INGEST_CONFLICT" });
      await expectNoLeak(server);
      expect(await readIds(server, storeId)).toEqual([]);
      expect(await expectExactCounts(server, storeId)).toBe(0);
    });
  });
