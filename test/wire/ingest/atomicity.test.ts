import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import { connectNode, grpcJs, type IngestMessage, type Upload } from "../../support/clients/ingest-client.ts";
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
import { startHttpUpload } from "../../support/clients/ingest-upload.ts";
import { startRelay } from "../../support/servers/relay.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const relay = await startRelay(server);
const { pool, kind } = server.database;
afterAll(async () => {
  await relay[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

let storeId: string;
beforeEach(async () => {
  storeId = await createStore(server);
});

const whole = { ingest_id: "one", atomicity: "ATOMICITY_STREAM" };
const batches = [1, 2, 3].map((seq) => batch(seq, makeRows(50, "r", seq * 50)));
const ids = makeRows(150, "r", 50).map(({ id }) => id);

/** Resolves when the service holds a transaction open. */
async function transactionIsOpen(): Promise<void> {
  await vi.waitFor(() => expect(pool.idleCount).toBeLessThan(pool.totalCount), {
    timeout: 60_000,
    interval: 5,
  });
}

async function expectNothing(): Promise<void> {
  await expectNoLeak(server);
  expect(await readIds(server, storeId)).toEqual([]);
  expect(await expectExactCounts(server, storeId)).toBe(0);
}

async function expectStoredByAnotherTry(): Promise<void> {
  await using client = grpcJs.connect(server);
  // Refused as long as the one before counts among the whole streams.
  const summary = await vi.waitFor(
    () => ingestAll(client, [open(storeId, whole), ...batches, { finish: { rows: 150 } }]),
    60_000,
  );
  expect(summary).toMatchObject({ state: "INGEST_STATE_COMPLETED", rows_written: 150, through_seq: 3 });
  expect(await readIds(server, storeId)).toEqual(ids);
  expect(await expectExactCounts(server, storeId)).toBe(150);
  await expectNoLeak(server);
}

describe.each([grpcJs, connectNode])("a whole stream with $name", (library) => {
  const client = library.connect(relay);
  afterAll(() => client[Symbol.asyncDispose]());

  test("shows nothing before its finish, and everything after", async () => {
    const { send, end, reply } = client.ingest();
    for (const message of [open(storeId, whole), ...batches]) await send(message);
    await transactionIsOpen();
    // The embedded database has one connection, which the stream holds.
    if (kind === "postgres") expect(await readIds(server, storeId)).toEqual([]);
    await send({ finish: { rows: 150 } });
    end();
    expect(await reply).toMatchObject({ state: "INGEST_STATE_COMPLETED", rows_written: 150 });
    expect(await readIds(server, storeId)).toEqual(ids);
    await expectExactCounts(server, storeId);
  });

  test("announces one commit, that of everything", async () => {
    const { send, end, next } = client.session();
    for (const message of [open(storeId, whole), ...batches, { finish: { rows: 150 } }]) await send(message);
    end();
    expect(await next()).toMatchObject({ opened: { ingest_id: "one", resume_after_seq: 0 } });
    expect(await next()).toMatchObject({ summary: { rows_written: 150, through_seq: 3 } });
    expect(await next()).toBeUndefined();
  });

  test("left out rows are no obstacle with skip_row", async () => {
    const settings = { ...whole, on_error: "ON_ERROR_SKIP_ROW" };
    const bad = { id: "bad", embedding: [1, 2] };
    const summary = await ingestAll(client, [
      open(storeId, settings),
      ...batches,
      batch(4, [bad, ...makeRows(1, "s")]),
      { finish: { rows: 152 } },
    ]);
    expect(summary).toMatchObject({
      rows_written: 151,
      rows_rejected: 1,
      errors: [{ seq: 4, index: 0, id: "bad" }],
    });
    expect(await expectExactCounts(server, storeId)).toBe(151);
  });

  const endings: [string, IngestMessage[], { param: string }][] = [
    ["without finish", [], { param: "finish" }],
    ["with a finish that tells no number", [{ finish: {} }], { param: "finish.rows" }],
    ["with a finish that tells another number", [{ finish: { rows: 151 } }], { param: "finish.rows" }],
    [
      "with a row that is refused",
      [batch(4, [{ id: "x", embedding: [1, 2] }]), { finish: { rows: 151 } }],
      { param: "rows[0].content" },
    ],
    [
      "with an id that came before",
      [batch(4, makeRows(1, "r", 50)), { finish: { rows: 151 } }],
      { param: "rows[0].id" },
    ],
    ["with a gap in its numbers", [batch(5, makeRows(1, "s"))], { param: "batch.seq" }],
  ];
  test.each(endings)("stores nothing when it ends %s, and can be tried again", async (_, last, expected) => {
    await expect(ingestAll(client, [open(storeId, whole), ...batches, ...last])).rejects.toMatchObject({
      code: "invalid_argument",
      ...expected,
    });
    await expectNothing();
    await expectStoredByAnotherTry();
  });

  const breaks: [string, string, { timeoutMs?: number }, (upload: Upload) => void][] = [
    ["it is cancelled", "cancelled", {}, (upload) => upload.cancel()],
    ["its deadline passes", "deadline_exceeded", { timeoutMs: 5_000 }, () => {}],
    ["the connection is cut", "unavailable", {}, () => relay.cut()],
  ];
  test.each(breaks)("stores nothing when %s, and can be tried again", async (_, code, options, breakOff) => {
    const upload = client.ingest(options);
    for (const message of [open(storeId, whole), ...batches]) await upload.send(message);
    await transactionIsOpen();
    breakOff(upload);
    const error = await upload.reply.catch((failed: unknown) => failed);
    // A cut connection has no code of its own: libraries choose.
    if (code !== "unavailable") expect(error).toMatchObject({ code });
    else expect(error).toBeInstanceOf(Error);
    await expectNothing();
    await expectStoredByAnotherTry();
  });

  test("cancelled in the same breath as its last batch it stores nothing", async () => {
    for (let round = 0; round < 10; round++) {
      // A call that is cancelled before its stream exists, grpc-js begins all the same, and never ends.
      const { send, next, cancel } = await vi.waitFor(async () => {
        const session = client.session();
        await session.send(open(storeId, whole));
        // Refused as long as the one before counts among the whole streams.
        await session.next();
        return session;
      }, 60_000);
      for (const message of batches) void send(message);
      cancel();
      await expect(next()).rejects.toMatchObject({ code: "cancelled" });
    }
    await expectNothing();
    await expectStoredByAnotherTry();
  });
});

describe.each(["1.1", "2"] as const)("a whole stream over HTTP/%s", (version) => {
  const lines = batches.flatMap((message) => ("batch" in message ? message.batch.rows : []));
  const body = lines.map((row) => `${JSON.stringify(row)}\n`).join("");
  const start = () => {
    const url = `${relay.url}/v1/vector_stores/${storeId}/embeddings/ingest?atomicity=stream`;
    return startHttpUpload(version, url, {
      "content-type": "application/x-ndjson",
      "idempotency-key": "one",
    });
  };

  test("is stored by its last line", async () => {
    const upload = start();
    await upload.write(body);
    await upload.write('{"finish":{"rows":150}}');
    upload.end();
    const { status, text } = await upload.reply;
    expect(status, text).toBe(200);
    expect(JSON.parse(text)).toMatchObject({ object: "ingest", state: "completed", rows_written: 150 });
    expect(await readIds(server, storeId)).toEqual(ids);
  });

  const endings: [string, string, string][] = [
    ["", "without the line", "finish"],
    ['{"finish":{"rows":149}}\n', "with another number", "finish.rows"],
    ['{"finish":{}}\n', "without a number", "finish.rows"],
    ['{"id":"bad"}\n{"finish":{"rows":151}}\n', "with a row that is refused", "rows[50].content"],
    ['{"finish":{"rows":150}}\n{"content":"more"}\n', "with a row after it", "finish"],
  ];
  test.each(endings)("%s: nothing is stored %s", async (last, _, param) => {
    const upload = start();
    await upload.write(body + last);
    upload.end();
    const { status, text } = await upload.reply;
    expect(status, text).toBe(400);
    expect(JSON.parse(text)).toMatchObject({ error: { type: "invalid_request_error", param } });
    await expectNothing();
    await expectStoredByAnotherTry();
  });

  test.each([
    ["it is cancelled", (upload: { cancel(): void }) => upload.cancel()],
    ["the connection is cut", () => relay.cut()],
  ])("stores nothing when %s, and can be tried again", async (_, breakOff) => {
    const upload = start();
    await upload.write(body);
    await transactionIsOpen();
    breakOff(upload);
    await upload.closed;
    await expectNothing();
    await expectStoredByAnotherTry();
  });
});

test("only so many whole streams hold a connection at a time; others are asked to come later", async () => {
  await using client = grpcJs.connect(server);
  const most = Math.max(1, Math.floor((pool.options.max ?? 1) / 2));
  const held = [];
  for (let index = 0; index < most; index++) {
    const session = client.session();
    await session.send(open(storeId, { ...whole, ingest_id: `held${index}` }));
    await session.next();
    held.push(session);
  }
  await expect(ingestAll(client, [open(storeId, whole), ...batches])).rejects.toMatchObject({
    code: "resource_exhausted",
    reason: "RATE_LIMIT_EXCEEDED",
    retryAfterMs: 1_000,
  });
  for (const session of held) session.cancel();
  await expectNothing();
  await expectStoredByAnotherTry();
});
