import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { openTestDatabase } from "../../support/databases/database.ts";
import { embedderAt } from "../../support/servers/embedder.ts";
import { startEmbeddingServer } from "../../support/servers/embedding-server.ts";
import { grpcJs, type IngestClient, type Row } from "../../support/clients/ingest-client.ts";
import {
  batch,
  createStore,
  deleteStore,
  expectExactCounts,
  expectNoLeak,
  ingestAll,
  makeRows,
  open,
  readIds,
} from "../../support/stores/ingest-store.ts";
import { startHttpUpload } from "../../support/clients/ingest-upload.ts";
import { startRelay } from "../../support/servers/relay.ts";
import { startServer } from "../../support/servers/server.ts";

const database = await openTestDatabase();
afterAll(() => database.close());

/** What one stream reserves; half of a budget is for streams. */
const STREAM_BYTES = 1024 * 1024;

describe("with memory for one stream", async () => {
  const provider = await startEmbeddingServer({ dimensions: 2 });
  const server = await startServer({
    database,
    embedder: embedderAt(provider.url),
    ingest: { memoryBytes: 2 * STREAM_BYTES, idleMs: 3_000 },
  });
  const relay = await startRelay(server);
  const client = grpcJs.connect(relay);
  let storeId: string;
  beforeAll(async () => {
    storeId = await createStore(server, { dimensions: 2 });
  });
  afterAll(async () => {
    await client[Symbol.asyncDispose]();
    await relay[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
    await provider[Symbol.asyncDispose]();
  });

  const refusal = { code: "resource_exhausted", reason: "RATE_LIMIT_EXCEEDED", retryAfterMs: 1_000 };

  /** Opens a stream, which takes all there is for streams. */
  async function take(from: IngestClient = client, settings = {}) {
    const session = from.session();
    await session.send(open(storeId, settings));
    await session.next();
    return session;
  }

  /** Expects that the memory is given back: a next stream is accepted, and stores rows. */
  async function expectFree(): Promise<void> {
    await vi.waitFor(
      async () => {
        const id = `free${Math.random()}`;
        const summary = await ingestAll(client, [
          open(storeId, { mode: "WRITE_MODE_UPSERT" }),
          batch(1, [{ id, content: id, embedding: [1, 1] }]),
          { finish: { rows: 1 } },
        ]);
        expect(summary.rows_written).toBe(1);
      },
      { timeout: 60_000, interval: 50 },
    );
    await expectNoLeak(server);
  }

  test("a further stream is refused before its rows are read, and told when to come again", async () => {
    const first = await take();
    const refused = client.ingest();
    await refused.send(open(storeId));
    await expect(refused.reply).rejects.toMatchObject(refusal);
    const upload = startHttpUpload("1.1", `${server.url}/v1/vector_stores/${storeId}/embeddings/ingest`);
    const { status, headers, text } = await upload.reply;
    expect(status, text).toBe(429);
    expect(headers).toMatchObject({ "retry-after": "1", "retry-after-ms": "1000" });
    upload.cancel();
    first.cancel();
    await expectFree();
  });

  const failures: [string, () => Promise<unknown>][] = [
    ["ends without finish", () => ingestAll(client, [open(storeId), batch(1, makeRows(5))])],
    ["leaves a gap", () => ingestAll(client, [open(storeId), batch(2, makeRows(5))])],
    [
      "ends at a bad row",
      () => ingestAll(client, [open(storeId, { on_error: "ON_ERROR_ABORT" }), batch(1, [{ id: "a" }])]),
    ],
    ["names an unknown store", () => ingestAll(client, [open("vs_none"), batch(1, makeRows(5))])],
    [
      "is given up",
      async () => {
        const session = await take();
        await session.send(batch(1, makeRows(5, "c")));
        session.cancel();
      },
    ],
    [
      "outlives its deadline",
      async () => {
        const session = client.session({ timeoutMs: 300 });
        await session.send(open(storeId));
        while ((await session.next()) !== undefined);
      },
    ],
    [
      "is cut off",
      async () => {
        const session = await take();
        await session.send(batch(1, makeRows(5, "d")));
        relay.cut();
      },
    ],
    [
      "falls silent",
      async () => {
        const session = await take();
        await session.next();
      },
    ],
    [
      "meets a provider that fails",
      async () => {
        provider.next({ status: 500, body: {} });
        await ingestAll(client, [open(storeId), batch(1, [{ content: "embed me" }])]);
      },
    ],
    [
      "is given up while the provider works",
      async () => {
        const asked = provider.requests.length;
        provider.next({ fault: "silence" });
        const session = await take();
        await session.send(batch(1, [{ content: "embed me" }]));
        await provider.received(asked + 1);
        session.cancel();
      },
    ],
    [
      "is a whole stream without finish",
      () => ingestAll(client, [open(storeId, whole), batch(1, makeRows(5, "e"))]),
    ],
    [
      "is a whole stream that is given up",
      async () => {
        const session = await take(client, whole);
        await session.send(batch(1, makeRows(5, "f")));
        session.cancel();
      },
    ],
    [
      "loses its store",
      async () => {
        const id = await createStore(server);
        const session = client.session();
        await session.send(open(id));
        await session.next();
        await deleteStore(server, id);
        await session.send(batch(1, makeRows(5)));
        await session.next();
      },
    ],
    [
      "is a broken upload",
      async () => {
        const upload = startHttpUpload("2", `${server.url}/v1/vector_stores/${storeId}/embeddings/ingest`);
        await upload.write('{"content":"x","embedding":[1,2]}\n{"content":');
        upload.cancel();
      },
    ],
  ];
  const whole = { atomicity: "ATOMICITY_STREAM" };

  test.each(failures)("the memory of a stream that %s is given back", async (_, fail) => {
    await fail().catch(() => {});
    await expectFree();
    await expectExactCounts(server, storeId);
  });

  test("a batch larger than the whole budget is taken when it is alone", async () => {
    const rows: Row[] = makeRows(5, "large").map((row) => ({ ...row, content: "x".repeat(1024 * 1024) }));
    const summary = await ingestAll(client, [
      open(storeId),
      batch(1, rows),
      batch(2, makeRows(1, "small")),
      { finish: {} },
    ]);
    expect(summary).toMatchObject({ rows_written: 6 });
    await expectFree();
  });
});

test("streams that together want more than there is all come to their end", async () => {
  await using server = await startServer({ database, ingest: { memoryBytes: 8 * STREAM_BYTES } });
  await using client = grpcJs.connect(server);
  const storeId = await createStore(server);
  const streams = Array.from({ length: 4 }, async (_, stream) => {
    const large = (seq: number) =>
      batch(
        seq,
        makeRows(6, `s${stream}b${seq}-`).map((row) => ({ ...row, content: "x".repeat(512 * 1024) })),
      );
    const { send, end, next } = client.session();
    await send(open(storeId));
    await next();
    for (const seq of [1, 2, 3, 4]) await send(large(seq));
    await send({ finish: { rows: 24 } });
    end();
    for (;;) {
      const event = await next();
      if (event?.summary !== undefined) return event.summary.rows_written;
    }
  });
  expect(await Promise.all(streams)).toEqual([24, 24, 24, 24]);
  expect(await expectExactCounts(server, storeId)).toBe(96);
});

describe("with a limit of silence", async () => {
  const server = await startServer({ database, ingest: { idleMs: 2_000 } });
  const client = grpcJs.connect(server);
  afterAll(async () => {
    await client[Symbol.asyncDispose]();
    await server[Symbol.asyncDispose]();
  });
  const silence = {
    code: "deadline_exceeded",
    reason: "DEADLINE_EXCEEDED",
    message: expect.stringContaining("idle for 2 seconds"),
  };

  test("a stream that falls silent ends, and keeps what is committed", async () => {
    const storeId = await createStore(server);
    const { send, next } = client.session();
    await send(open(storeId));
    await next();
    await send(batch(1, makeRows(3)));
    expect(await next()).toMatchObject({ committed: { through_seq: 1 } });
    await expect(next()).rejects.toMatchObject(silence);
    expect(await readIds(server, storeId)).toHaveLength(3);
    await expectNoLeak(server);
  });

  test("a whole stream that falls silent ends, and nothing is stored", async () => {
    const storeId = await createStore(server);
    const { send, next } = client.session();
    await send(open(storeId, { atomicity: "ATOMICITY_STREAM" }));
    await next();
    await send(batch(1, makeRows(3)));
    await expect(next()).rejects.toMatchObject(silence);
    expect(await readIds(server, storeId)).toEqual([]);
    await expectNoLeak(server);
  });

  test("a stream that never says anything ends", async () => {
    const { reply } = client.ingest();
    await expect(reply).rejects.toMatchObject(silence);
  });

  test.each(["1.1", "2"] as const)(
    "an upload over HTTP/%s that falls silent is answered, and ends",
    async (version) => {
      const storeId = await createStore(server);
      const upload = startHttpUpload(version, `${server.url}/v1/vector_stores/${storeId}/embeddings/ingest`);
      await upload.write('{"content":"x","embedding":[1]}\n');
      const { status, text } = await upload.reply;
      expect(status, text).toBe(504);
      expect(JSON.parse(text)).toMatchObject({ error: { type: "server_error", code: "deadline_exceeded" } });
      await upload.closed;
      expect(await readIds(server, storeId)).toEqual([]);
    },
  );

  test("a stream that is slow but not silent goes on", async () => {
    const storeId = await createStore(server);
    const { send, next } = client.session();
    await send(open(storeId));
    await next();
    for (let seq = 1; seq <= 8; seq++) {
      await new Promise((resolve) => setTimeout(resolve, 300));
      await send(batch(seq, makeRows(1, "r", seq)));
      expect(await next()).toMatchObject({ committed: { through_seq: seq } });
    }
    await send({ finish: { rows: 8 } });
    expect(await next()).toMatchObject({ summary: { rows_written: 8 } });
  });
});
