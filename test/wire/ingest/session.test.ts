import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { connectNode, grpcJs, type IngestEvent } from "../../support/clients/ingest-client.ts";
import {
  batch,
  createStore,
  expectExactCounts,
  expectNoLeak,
  makeRows,
  open,
  readIds,
} from "../../support/stores/ingest-store.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { startServer } from "../../support/servers/server.ts";

const database = await openTestDatabase();
const server = await startServer({ database });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
});

let storeId: string;
beforeEach(async () => {
  storeId = await createStore(server);
});

describe.each([grpcJs, connectNode])("a session with $name", (library) => {
  const client = library.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  test("begins with what the client needs to know", async () => {
    const session = client.session();
    await session.send(open(storeId, { ingest_id: "one" }));
    expect((await session.next())?.opened).toEqual({
      ingest_id: "one",
      resume_after_seq: 0,
      message_bytes_max: 32 * 1024 * 1024,
    });
    session.cancel();
  });

  test("acknowledges what anybody can see by then, to a client that waits for each", async () => {
    const { send, end, next } = client.session();
    await send(open(storeId));
    await next();
    for (let seq = 1; seq <= 20; seq++) {
      await send(batch(seq, makeRows(3, "r", seq * 3)));
      expect(await next()).toEqual({
        event: "committed",
        committed: { through_seq: seq, rows_written: 3, rows_skipped: 0, rows_rejected: 0, errors: [] },
      });
      expect(await readIds(server, storeId)).toHaveLength(seq * 3);
      await expectExactCounts(server, storeId);
    }
    await send({ finish: { rows: 60 } });
    end();
    expect(await next()).toMatchObject({ summary: { rows_written: 60, through_seq: 20 } });
    expect(await next()).toBeUndefined();
    await expectNoLeak(server);
  });

  test("acknowledges in order, each batch once, to a client that sends as fast as it can", async () => {
    const { send, end, next } = client.session();
    await send(open(storeId));
    await next();
    const batches = Array.from({ length: 200 }, (_, index) =>
      batch(index + 1, makeRows(10, "r", index * 10)),
    );
    const sending = (async () => {
      for (const message of batches) await send(message);
      await send({ finish: { rows: 2_000 } });
      end();
    })();
    let through = 0;
    let written = 0;
    for (;;) {
      const event = (await next()) as IngestEvent;
      if (event.summary !== undefined) {
        expect(event.summary).toMatchObject({ through_seq: 200, rows_written: 2_000 });
        break;
      }
      const committed = event.committed as NonNullable<IngestEvent["committed"]>;
      expect(committed.through_seq).toBeGreaterThan(through);
      through = committed.through_seq;
      written += committed.rows_written;
      expect(written).toBe(through * 10);
    }
    await sending;
    expect(await readIds(server, storeId)).toHaveLength(2_000);
  });

  test("a session that ends without finish is answered with how far it came", async () => {
    const { send, end, next } = client.session();
    await send(open(storeId));
    await next();
    await send(batch(1, makeRows(1)));
    await next();
    end();
    expect(await next()).toMatchObject({ summary: { state: "INGEST_STATE_OPEN", through_seq: 1 } });
    expect(await next()).toBeUndefined();
  });
});

describe.each([grpcJs, connectNode])("a service that ends, with $name", (library) => {
  test("acknowledges the batch in hand, says so, and the stream goes on at another one", async () => {
    const ending = await startServer({ database });
    const client = library.connect(ending);
    const { send, next } = client.session();
    await send(open(storeId, { ingest_id: "one" }));
    await next();
    await send(batch(1, makeRows(10)));
    expect(await next()).toMatchObject({ committed: { through_seq: 1 } });
    const stopped = ending.stop(20_000);
    expect(await next()).toEqual({ event: "draining", draining: { through_seq: 1 } });
    await expect(next()).rejects.toMatchObject({
      code: "unavailable",
      reason: "INGEST_DRAINING",
      retryAfterMs: 1_000,
    });
    await client[Symbol.asyncDispose]();
    await stopped;

    await using other = library.connect(server);
    const again = other.session();
    await again.send(open(storeId, { ingest_id: "one" }));
    expect(await again.next()).toMatchObject({ opened: { resume_after_seq: 1 } });
    await again.send(batch(2, makeRows(10, "s")));
    expect(await again.next()).toMatchObject({ committed: { through_seq: 2 } });
    await again.send({ finish: { rows: 20 } });
    expect(await again.next()).toMatchObject({
      summary: { state: "INGEST_STATE_COMPLETED", rows_written: 20 },
    });
    expect(await expectExactCounts(server, storeId)).toBe(20);
    await expectNoLeak(server);
  });

  test("in the middle of a fast stream: every row is stored once in the end", async () => {
    const ending = await startServer({ database });
    const client = library.connect(ending);
    const batches = Array.from({ length: 400 }, (_, index) =>
      batch(index + 1, makeRows(10, "r", index * 10)),
    );
    const first = client.session();
    await first.send(open(storeId, { ingest_id: "one" }));
    await first.next();
    const sending = (async () => {
      for (const message of batches) await first.send(message);
    })();
    let stopped: Promise<void> | undefined;
    let through = 0;
    let draining: number | undefined;
    const failure = await (async () => {
      for (;;) {
        const event = await first.next();
        through = event?.committed?.through_seq ?? through;
        draining ??= event?.draining?.through_seq;
        stopped ??= ending.stop(20_000);
      }
    })().catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "unavailable", reason: "INGEST_DRAINING" });
    expect(draining).toBe(through);
    await sending;
    await client[Symbol.asyncDispose]();
    await stopped;
    expect(await readIds(server, storeId)).toHaveLength(through * 10);

    await using other = library.connect(server);
    const { send, next } = other.session();
    await send(open(storeId, { ingest_id: "one" }));
    expect(await next()).toMatchObject({ opened: { resume_after_seq: through } });
    for (const message of batches.slice(through)) await send(message);
    await send({ finish: { rows: 4_000 } });
    let event: IngestEvent | undefined;
    do event = await next();
    while (event?.summary === undefined);
    expect(event.summary).toMatchObject({ state: "INGEST_STATE_COMPLETED", rows_written: 4_000 });
    expect(await readIds(server, storeId)).toEqual(makeRows(4_000).map(({ id }) => id));
    await expectExactCounts(server, storeId);
  });

  test("rolls back a whole stream, and takes no new one", async () => {
    const ending = await startServer({ database });
    const client = library.connect(ending);
    const { send, next } = client.session();
    await send(open(storeId, { ingest_id: "one", atomicity: "ATOMICITY_STREAM" }));
    await next();
    await send(batch(1, makeRows(10)));
    const stopped = ending.stop(20_000);
    await expect(next()).rejects.toMatchObject({ code: "unavailable", reason: "INGEST_DRAINING" });
    await client[Symbol.asyncDispose]();
    await stopped;
    expect(await readIds(server, storeId)).toEqual([]);
    await expectNoLeak(server);
  });
});
