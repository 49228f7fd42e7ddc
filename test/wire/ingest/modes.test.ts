import { afterAll, beforeEach, describe, expect, test } from "vitest";
import {
  connectNode,
  grpcJs,
  grpcJsBytes,
  type Row,
  type Summary,
} from "../../support/clients/ingest-client.ts";
import {
  batch,
  createStore,
  expectExactCounts,
  expectNoLeak,
  ingestAll,
  makeRows,
  open,
  randomOf,
  readIds,
  readRows,
} from "../../support/stores/ingest-store.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

let storeId: string;
beforeEach(async () => {
  storeId = await createStore(server);
});

const counts = ({ rows_written, rows_skipped, rows_rejected }: Summary) => [
  rows_written,
  rows_skipped,
  rows_rejected,
];

const row = (id: string, content: string): Row => ({ id, content, embedding: [1, content.length] });

describe.each([grpcJs, connectNode])("with $name", (library) => {
  const client = library.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  test("stores texts, vectors, metadata and times as they came", async () => {
    const metadata = {
      text: "ä€🐘",
      number: 1.5,
      yes: true,
      none: null,
      list: [1, ["a"]],
      object: { a: {} },
    };
    const full = {
      id: "full",
      content: "ä€🐘",
      embedding: [1.5, -2, 1e-30],
      metadata,
      created_at: 1_700_000_000,
    };
    const summary = await ingestAll(client, [
      open(storeId, { ingest_id: "one" }),
      batch(1, [full, { content: "no id", embedding: [0, 0, 1] }]),
      { finish: { rows: 2 } },
    ]);
    expect(summary).toMatchObject({
      object: "ingest",
      ingest_id: "one",
      vector_store_id: storeId,
      state: "INGEST_STATE_COMPLETED",
      through_seq: 1,
      errors: [],
    });
    expect(counts(summary)).toEqual([2, 0, 0]);
    const rows = await readRows(server, storeId);
    expect(rows[0]).toMatchObject({ id: expect.stringMatching(/^emb_/), content: "no id", metadata: {} });
    expect(rows[1]).toEqual({ id: "full", content: "ä€🐘", embedding: [1.5, -2, 1e-30], metadata });
    const { rows: times } = await server.database.pool.query(
      "select extract(epoch from created_at)::int as at from embeddings where vector_store_id = $1 and id = 'full'",
      [storeId],
    );
    expect(times).toEqual([{ at: 1_700_000_000 }]);
    expect(await expectExactCounts(server, storeId)).toBe(2);
  });

  test("insert refuses the rows whose id is taken: in the batch, in the group, in the store", async () => {
    await ingestAll(client, [open(storeId), batch(1, [row("old", "first")]), { finish: {} }]);
    const summary = await ingestAll(client, [
      open(storeId, { on_error: "ON_ERROR_SKIP_ROW" }),
      batch(1, [row("a", "kept"), row("a", "repeated"), row("old", "taken")]),
      batch(2, [row("a", "in the group"), row("b", "kept")]),
      { finish: { rows: 5 } },
    ]);
    expect(counts(summary)).toEqual([2, 0, 3]);
    expect(summary.errors.map(({ seq, index, id, code, field }) => [seq, index, id, code, field])).toEqual([
      [1, 1, "a", "ALREADY_EXISTS", "id"],
      [1, 2, "old", "ALREADY_EXISTS", "id"],
      [2, 0, "a", "ALREADY_EXISTS", "id"],
    ]);
    expect((await readRows(server, storeId)).map(({ id, content }) => [id, content])).toEqual([
      ["a", "kept"],
      ["b", "kept"],
      ["old", "first"],
    ]);
    expect(await expectExactCounts(server, storeId)).toBe(3);
  });

  test("upsert keeps the last of an id: in the batch, in the group, over the store", async () => {
    await ingestAll(client, [open(storeId), batch(1, [row("old", "long before")]), { finish: {} }]);
    const summary = await ingestAll(client, [
      open(storeId, { mode: "WRITE_MODE_UPSERT" }),
      batch(1, [row("a", "first"), row("a", "second"), row("old", "new")]),
      batch(2, [row("b", "b"), row("a", "third")]),
      { finish: { rows: 5 } },
    ]);
    expect(counts(summary)).toEqual([5, 0, 0]);
    expect(
      (await readRows(server, storeId)).map(({ id, content, embedding }) => [id, content, embedding]),
    ).toEqual([
      ["a", "third", [1, 5]],
      ["b", "b", [1, 1]],
      ["old", "new", [1, 3]],
    ]);
    expect(await expectExactCounts(server, storeId)).toBe(3);
  });

  test("skip_existing keeps the first of an id: in the batch, in the group, of the store", async () => {
    await ingestAll(client, [open(storeId), batch(1, [row("old", "before")]), { finish: {} }]);
    const summary = await ingestAll(client, [
      open(storeId, { mode: "WRITE_MODE_SKIP_EXISTING" }),
      batch(1, [row("a", "first"), row("a", "second"), row("old", "new")]),
      batch(2, [row("b", "b"), row("a", "third")]),
      { finish: { rows: 5 } },
    ]);
    expect(counts(summary)).toEqual([2, 3, 0]);
    expect(summary.errors).toEqual([]);
    expect((await readRows(server, storeId)).map(({ id, content }) => [id, content])).toEqual([
      ["a", "first"],
      ["b", "b"],
      ["old", "before"],
    ]);
    expect(await expectExactCounts(server, storeId)).toBe(3);
  });

  test("an id that came in an earlier stream, or in an earlier group, is taken in each mode", async () => {
    const { send, end, next } = client.session();
    await send(open(storeId, { on_error: "ON_ERROR_SKIP_ROW" }));
    expect(await next()).toHaveProperty("opened");
    await send(batch(1, makeRows(3)));
    expect(await next()).toMatchObject({ committed: { through_seq: 1, rows_written: 3 } });
    await send(batch(2, makeRows(4)));
    expect(await next()).toMatchObject({ committed: { through_seq: 2, rows_written: 1, rows_rejected: 3 } });
    await send({ finish: { rows: 7 } });
    end();
    expect(counts((await next())?.summary as Summary)).toEqual([4, 0, 3]);
    expect(await readIds(server, storeId)).toEqual(makeRows(4).map(({ id }) => id));
    await expectExactCounts(server, storeId);
  });

  test("an empty stream is complete with no rows", async () => {
    const summary = await ingestAll(client, [open(storeId), { finish: { rows: 0 } }]);
    expect(summary).toMatchObject({ state: "INGEST_STATE_COMPLETED", through_seq: 0 });
    expect(counts(summary)).toEqual([0, 0, 0]);
  });

  test("many batches of many rows arrive whole and in exact numbers", async () => {
    const messages = Array.from({ length: 40 }, (_, index) =>
      batch(index + 1, makeRows(250, "r", index * 250)),
    );
    const summary = await ingestAll(client, [open(storeId), ...messages, { finish: { rows: 10_000 } }]);
    expect(counts(summary)).toEqual([10_000, 0, 0]);
    expect(summary.through_seq).toBe(40);
    expect(await readIds(server, storeId)).toEqual(makeRows(10_000).map(({ id }) => id));
    expect(await expectExactCounts(server, storeId)).toBe(10_000);
  });
});

test("a client that compiles vectors as bytes stores the same bits", async () => {
  await using client = grpcJsBytes.connect(server);
  const vector = Float32Array.of(1.1, -0, 3.4e38, 1e-45);
  await ingestAll(client, [
    open(storeId),
    batch(1, [{ id: "a", content: "a", bytes: new Uint8Array(vector.buffer) }]),
    { finish: { rows: 1 } },
  ]);
  const { rows } = await server.database.pool.query(
    "select vector_send(embedding) as v from embeddings where vector_store_id = $1",
    [storeId],
  );
  expect(new Float32Array(new Uint8Array((rows[0].v as Buffer).subarray(4).swap32()).buffer)).toEqual(vector);
});

/** One stream of random batches, with what it should come to. */
function randomBatches(random: (bound: number) => number, batches: number) {
  const texts = ["a", "ä", "€", "🐘", "mixed ä€🐘"];
  return Array.from({ length: batches }, (_, index) =>
    batch(
      index + 1,
      Array.from({ length: 1 + random(8) }, () =>
        row(`e${random(60)}`, (texts[random(texts.length)] as string).repeat(1 + random(30))),
      ),
    ),
  );
}

test.each([1, 2, 3, 4])(
  "counts stay exact with streams of different modes and deletions at the same time, seed %i",
  async (seed) => {
    const random = randomOf(seed);
    await using client = grpcJs.connect(server);
    if (server.database.kind === "postgres") {
      // Rows of one id in both streams make them deadlock, which Postgres notices after a second by default.
      await server.database.pool.query(
        "do $$ begin execute format('alter database %I set deadlock_timeout = ''20ms''', current_database()); end $$",
      );
    }
    const modes = ["WRITE_MODE_INSERT", "WRITE_MODE_UPSERT", "WRITE_MODE_SKIP_EXISTING"];
    const stream = async (mode: string, random: (bound: number) => number) => {
      const messages = randomBatches(random, 25);
      const rows = messages.reduce(
        (sum, message) => sum + ("batch" in message ? message.batch.rows.length : 0),
        0,
      );
      const onError = random(2) === 0 ? "ON_ERROR_SKIP_ROW" : "ON_ERROR_ABORT_BATCH";
      const { send, end, next } = client.session();
      await send(open(storeId, { mode, on_error: onError }));
      await next();
      for (const [index, message] of messages.entries()) {
        await send(message);
        // Some wait for their acknowledgement, some are joined with their neighbours.
        if (random(2) === 0)
          for (let seq = 0; seq < index + 1;) seq = (await next())?.committed?.through_seq ?? Infinity;
      }
      await send({ finish: { rows } });
      end();
      for (;;) {
        const event = await next();
        if (event?.summary === undefined) continue;
        const { rows_written, rows_skipped, rows_rejected } = event.summary;
        expect(rows_written + rows_skipped + rows_rejected).toBe(rows);
        return;
      }
    };
    let isOver = false;
    const deletions = async () => {
      while (!isOver) {
        await fetch(`${server.url}/v1/vector_stores/${storeId}/embeddings/e${random(60)}`, {
          method: "DELETE",
        });
      }
    };
    const deleting = deletions();
    const first = random(3);
    await Promise.all([
      stream(modes[first] as string, randomOf(seed * 100)),
      stream(modes[(first + 1 + random(2)) % 3] as string, randomOf(seed * 100 + 1)),
    ]).finally(() => {
      isOver = true;
    });
    await deleting;
    expect(await expectExactCounts(server, storeId)).toBeGreaterThan(0);
    await expectNoLeak(server);
  },
);
