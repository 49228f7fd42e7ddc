import { afterAll, beforeEach, describe, expect, test } from "vitest";
import {
  connectNode,
  grpcJs,
  type IngestClient,
  type IngestEvent,
} from "../../support/clients/ingest-client.ts";
import {
  batch,
  createStore,
  expectExactCounts,
  expectNoLeak,
  ingestAll,
  makeRows,
  open,
  readIds,
} from "../../support/stores/ingest-store.ts";
import { startRelay } from "../../support/servers/relay.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const relay = await startRelay(server);
afterAll(async () => {
  await relay[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

let storeId: string;
beforeEach(async () => {
  storeId = await createStore(server);
});

const SIZE = 20;
const batches = Array.from({ length: 10 }, (_, index) => batch(index + 1, makeRows(SIZE, "r", index * SIZE)));
const ids = makeRows(10 * SIZE).map(({ id }) => id);
const opening = () => open(storeId, { ingest_id: "one" });
const key = () => ({ vector_store_id: storeId, ingest_id: "one" });

/** Begins the ingest and sends `count` batches, each after the acknowledgement of the one before. */
async function begin(client: IngestClient, count: number) {
  const session = client.session();
  await session.send(opening());
  await session.next();
  for (const message of batches.slice(0, count)) {
    await session.send(message);
    await session.next();
  }
  return session;
}

describe.each([grpcJs, connectNode])("with $name", (library) => {
  const client = library.connect(relay);
  afterAll(() => client[Symbol.asyncDispose]());

  test.each([
    ["its client ends without finish", "end"],
    ["its client gives up", "cancel"],
    ["its connection is cut", "cut"],
  ])("a stream goes on where it stood after %s", async (_, how) => {
    const first = await begin(client, 4);
    if (how === "end") first.end();
    else if (how === "cancel") first.cancel();
    else relay.cut();
    await first.next().catch(() => {});
    const { send, end, next } = client.session();
    await send(opening());
    expect(await next()).toMatchObject({ opened: { ingest_id: "one", resume_after_seq: 4 } });
    for (const message of batches.slice(4)) await send(message);
    await send({ finish: { rows: ids.length } });
    end();
    let event: IngestEvent | undefined;
    do event = await next();
    while (event?.summary === undefined);
    expect(event.summary).toMatchObject({
      state: "INGEST_STATE_COMPLETED",
      through_seq: 10,
      rows_written: ids.length,
      rows_skipped: 0,
      rows_rejected: 0,
    });
    expect(await readIds(server, storeId)).toEqual(ids);
    expect(await expectExactCounts(server, storeId)).toBe(ids.length);
    await expectNoLeak(server);
  });

  test("batches that were committed may be sent again", async () => {
    const first = await begin(client, 4);
    first.end();
    await first.next();
    const summary = await ingestAll(client, [opening(), ...batches, { finish: { rows: ids.length } }]);
    expect(summary).toMatchObject({ rows_written: ids.length, rows_rejected: 0, through_seq: 10 });
    expect(await readIds(server, storeId)).toEqual(ids);
  });

  test("a gap is refused, naming the number that was expected", async () => {
    const first = await begin(client, 2);
    first.end();
    await first.next();
    await expect(ingestAll(client, [opening(), ...batches.slice(3)])).rejects.toMatchObject({
      code: "invalid_argument",
      param: "batch.seq",
      message: expect.stringContaining("expected 3, but got 4"),
    });
    expect(await readIds(server, storeId)).toEqual(ids.slice(0, 2 * SIZE));
  });

  test("the name that the service gives an ingest without one resumes it", async () => {
    const first = client.session();
    await first.send(open(storeId));
    const made = (await first.next())?.opened?.ingest_id as string;
    expect(made).toMatch(/^ing_/);
    await first.send(batch(1, makeRows(1)));
    await first.next();
    first.cancel();
    const summary = await ingestAll(client, [open(storeId, { ingest_id: made }), { finish: { rows: 1 } }]);
    expect(summary).toMatchObject({ ingest_id: made, through_seq: 1, rows_written: 1 });
  });

  test("GetIngest tells how far it came", async () => {
    await expect(client.call("GetIngest", key())).rejects.toMatchObject({
      code: "not_found",
      param: "ingest_id",
    });
    await expect(client.call("GetIngest", { ...key(), vector_store_id: "vs_none" })).rejects.toMatchObject({
      code: "not_found",
      param: "vector_store_id",
    });
    const session = await begin(client, 3);
    expect(await client.call("GetIngest", key())).toMatchObject({
      object: "ingest",
      ingest_id: "one",
      vector_store_id: storeId,
      state: "INGEST_STATE_OPEN",
      through_seq: 3,
      rows_written: 3 * SIZE,
    });
    await session.send({ finish: {} });
    expect(await session.next()).toMatchObject({ summary: { state: "INGEST_STATE_COMPLETED" } });
    expect(await client.call("GetIngest", key())).toMatchObject({
      state: "INGEST_STATE_COMPLETED",
      through_seq: 3,
    });
  });
});

describe("with one client", () => {
  const client = grpcJs.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  test.each([
    { mode: "WRITE_MODE_UPSERT" },
    { atomicity: "ATOMICITY_STREAM" },
    { on_error: "ON_ERROR_SKIP_ROW" },
    { dimensions: 2 },
    { max_row_errors: 1 },
  ])(
    "an ingest opened again with $mode$atomicity$on_error$dimensions$max_row_errors is refused",
    async (other) => {
      const first = await begin(client, 1);
      first.cancel();
      await expect(ingestAll(client, [open(storeId, { ingest_id: "one", ...other })])).rejects.toMatchObject({
        code: "failed_precondition",
        reason: "INGEST_CONFLICT",
        param: "open.ingest_id",
      });
      expect(await ingestAll(client, [opening(), { finish: { rows: SIZE } }])).toMatchObject({
        through_seq: 1,
      });
    },
  );

  test("a default that is spelled out is the same setting", async () => {
    (await begin(client, 1)).cancel();
    const spelled = {
      mode: "WRITE_MODE_INSERT",
      atomicity: "ATOMICITY_BATCH",
      on_error: "ON_ERROR_ABORT_BATCH",
      max_row_errors: 100,
    };
    const summary = await ingestAll(client, [
      open(storeId, { ingest_id: "one", ...spelled }),
      { finish: {} },
    ]);
    expect(summary).toMatchObject({ state: "INGEST_STATE_COMPLETED" });
  });

  test.each(["ATOMICITY_BATCH", "ATOMICITY_STREAM"])(
    "an ingest that is complete answers its summary, and takes no more rows (%s)",
    async (atomicity) => {
      const again = open(storeId, { ingest_id: "one", atomicity });
      const messages = [again, ...batches, { finish: { rows: ids.length } }];
      const summary = await ingestAll(client, messages);
      expect(await ingestAll(client, messages)).toEqual(summary);
      expect(await ingestAll(client, [again, { finish: { rows: ids.length } }])).toEqual(summary);
      await expect(ingestAll(client, [again, { finish: { rows: 1 } }])).rejects.toMatchObject({
        param: "finish.rows",
      });
      await expect(ingestAll(client, [again, batch(11, makeRows(1, "s"))])).rejects.toMatchObject({
        code: "failed_precondition",
        reason: "INGEST_CONFLICT",
      });
      expect(await readIds(server, storeId)).toEqual(ids);
      await expectExactCounts(server, storeId);
    },
  );

  test("two ingests of one name in two stores have nothing to do with each other", async () => {
    const other = await createStore(server);
    for (const id of [storeId, other]) {
      const summary = await ingestAll(client, [
        open(id, { ingest_id: "one" }),
        ...batches,
        { finish: { rows: ids.length } },
      ]);
      expect(summary).toMatchObject({ vector_store_id: id, rows_written: ids.length });
    }
    expect(await readIds(server, other)).toEqual(ids);
  });

  test("of two live streams of one ingest one goes on, and the other is told to open again", async () => {
    const streams = await Promise.all([begin(client, 0), begin(client, 0)]);
    const run = async ({ send, end, next }: (typeof streams)[number]) => {
      for (const message of batches) await send(message);
      await send({ finish: { rows: ids.length } });
      end();
      for (;;) {
        const event = await next();
        if (event?.summary !== undefined) return event.summary;
      }
    };
    const outcomes = await Promise.allSettled(streams.map(run));
    for (const outcome of outcomes) {
      if (outcome.status === "fulfilled") expect(outcome.value).toMatchObject({ rows_written: ids.length });
      else {
        expect(outcome.reason).toMatchObject({
          code: "aborted",
          reason: "INGEST_CONFLICT",
          message: expect.stringContaining("advanced by another stream"),
        });
      }
    }
    expect(outcomes.map(({ status }) => status)).toContain("rejected");
    // Each can have got in the way of the other.
    const summary = await ingestAll(client, [opening(), ...batches, { finish: { rows: ids.length } }]);
    expect(summary).toMatchObject({ rows_written: ids.length, rows_rejected: 0 });
    expect(await readIds(server, storeId)).toEqual(ids);
    await expectExactCounts(server, storeId);
    await expectNoLeak(server);
  });

  test("AbortIngest ends an open stream at its next commit, keeps what is committed, and is final", async () => {
    const session = await begin(client, 2);
    expect(await client.call("AbortIngest", key())).toMatchObject({
      state: "INGEST_STATE_ABORTED",
      through_seq: 2,
      rows_written: 2 * SIZE,
    });
    const aborted = {
      code: "failed_precondition",
      reason: "INGEST_CONFLICT",
      message: "Ingest 'one' was aborted and cannot be resumed.",
    };
    await session.send(batches[2] as (typeof batches)[number]);
    await expect(session.next()).rejects.toMatchObject(aborted);
    await expect(ingestAll(client, [opening()])).rejects.toMatchObject(aborted);
    expect(await client.call("AbortIngest", key())).toMatchObject({ state: "INGEST_STATE_ABORTED" });
    expect(await readIds(server, storeId)).toEqual(ids.slice(0, 2 * SIZE));
    await expectExactCounts(server, storeId);
    await expectNoLeak(server);
  });

  test("AbortIngest ends a stream that has nothing left but its finish", async () => {
    const session = await begin(client, 2);
    await client.call("AbortIngest", key());
    await session.send({ finish: { rows: 2 * SIZE } });
    await expect(session.next()).rejects.toMatchObject({
      code: "failed_precondition",
      message: "Ingest 'one' was aborted and cannot be resumed.",
    });
  });

  test("AbortIngest refuses what is complete, and knows no other", async () => {
    await ingestAll(client, [opening(), { finish: {} }]);
    await expect(client.call("AbortIngest", key())).rejects.toMatchObject({
      code: "failed_precondition",
      reason: "INGEST_CONFLICT",
    });
    await expect(client.call("AbortIngest", { ...key(), ingest_id: "a\0b" })).rejects.toMatchObject({
      code: "not_found",
    });
  });

  test("finish tells another number than was sent: what is committed stays, and the ingest goes on", async () => {
    const session = await begin(client, 2);
    await session.send({ finish: { rows: 1 } });
    await expect(session.next()).rejects.toMatchObject({ code: "invalid_argument", param: "finish.rows" });
    expect(await client.call("GetIngest", key())).toMatchObject({
      state: "INGEST_STATE_OPEN",
      through_seq: 2,
    });
    expect(await ingestAll(client, [opening(), { finish: { rows: 2 * SIZE } }])).toMatchObject({
      state: "INGEST_STATE_COMPLETED",
    });
  });
});
