import { gzipSync } from "node:zlib";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { send } from "../../support/clients/http.ts";
import {
  createStore,
  expectExactCounts,
  expectNoLeak,
  makeRows,
  readIds,
  readRows,
} from "../../support/stores/ingest-store.ts";
import { startHttpUpload, type HttpReply } from "../../support/clients/ingest-upload.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

let storeId: string;
let url: string;
beforeEach(async () => {
  storeId = await createStore(server);
  url = `${server.url}/v1/vector_stores/${storeId}/embeddings/ingest`;
});

const NDJSON = { "content-type": "application/x-ndjson" };
const lines = (rows: unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join("");
const line = (id: string) => JSON.stringify({ id, content: "text", embedding: [1, 2] });
const base64 = (vector: number[]) => Buffer.from(Float32Array.from(vector).buffer).toString("base64");

/** Uploads a whole body, in as many pieces as given. */
async function upload(
  version: "1.1" | "2",
  pieces: (string | Uint8Array)[],
  { query = "", headers = {} }: { query?: string; headers?: Record<string, string> } = {},
): Promise<HttpReply> {
  const started = startHttpUpload(version, url + query, { ...NDJSON, ...headers });
  for (const piece of pieces) await started.write(piece);
  started.end();
  return started.reply;
}

function expectSummary({ status, text }: HttpReply, expected: object): void {
  expect(status, text).toBe(200);
  expect(JSON.parse(text)).toMatchObject({ object: "ingest", vector_store_id: storeId, ...expected });
}

function expectRefusal({ status, headers, text }: HttpReply, expectedStatus: number, expected: object): void {
  expect(status, text).toBe(expectedStatus);
  expect(headers["content-type"]).toBe("application/json; charset=utf-8");
  expect(JSON.parse(text)).toMatchObject({ error: expected });
}

describe.each(["1.1", "2"] as const)("over HTTP/%s", (version) => {
  test("loads a line a row, and answers the summary in OpenAI's JSON", async () => {
    const rows = makeRows(250);
    const reply = await upload(version, [lines(rows)]);
    expect(reply.headers["x-request-id"]).toMatch(/^[0-9a-f-]{36}$/);
    expectSummary(reply, {
      ingest_id: expect.stringMatching(/^ing_/),
      state: "completed",
      through_seq: 3,
      rows_written: 250,
      rows_skipped: 0,
      rows_rejected: 0,
      errors: [],
      created_at: expect.any(Number),
    });
    expect(await readIds(server, storeId)).toEqual(rows.map(({ id }) => id));
    await expectExactCounts(server, storeId);
    await expectNoLeak(server);
  });

  test("reads lines however the body is cut, with CRLF, with blank ones, and without a last newline", async () => {
    const rows = ["ä", "€", "🐘"].map((content, index) => ({ id: `r${index}`, content, embedding: [1] }));
    const body = Buffer.from(`\r\n\n${rows.map((row) => JSON.stringify(row)).join("\r\n\n")}`);
    expectSummary(
      await upload(
        version,
        Array.from(body, (byte) => Buffer.of(byte)),
      ),
      { rows_written: 3, errors: [] },
    );
    expect((await readRows(server, storeId)).map(({ content }) => content)).toEqual(["ä", "€", "🐘"]);
  });

  test("takes gzip, also of several members", async () => {
    const rows = makeRows(300);
    const parts = [rows.slice(0, 150), rows.slice(150)].map((part) => gzipSync(lines(part)));
    const reply = await upload(version, parts, { headers: { "content-encoding": "gzip" } });
    expectSummary(reply, { rows_written: 300, through_seq: 3 });
    expect(await readIds(server, storeId)).toEqual(rows.map(({ id }) => id));
  });

  test("refuses what is not gzip, or not all of it, and keeps the batches before", async () => {
    const headers = { "content-encoding": "gzip" };
    const refused = { type: "invalid_request_error", code: "invalid_request" };
    expectRefusal(await upload(version, [lines(makeRows(3))], { headers }), 400, refused);
    expect(await readIds(server, storeId)).toEqual([]);
    // Rows that do not shrink, so that the cut comes after the first batch.
    const rows = makeRows(500).map((row) => ({
      ...row,
      content: Buffer.from(Array.from({ length: 60 }, () => Math.random() * 256)).toString("base64"),
    }));
    const zipped = gzipSync(lines(rows));
    expectRefusal(
      await upload(version, [zipped.subarray(0, zipped.length - 100)], { headers }),
      400,
      refused,
    );
    const ids = await readIds(server, storeId);
    expect(ids.length % 100).toBe(0);
    expect(ids).toEqual(rows.slice(0, ids.length).map(({ id }) => id));
    await expectExactCounts(server, storeId);
    await expectNoLeak(server);
  });

  test("needs no content type, as curl sends none", async () => {
    const started = startHttpUpload(version, url, {});
    await started.write(lines(makeRows(2)));
    started.end();
    expectSummary(await started.reply, { rows_written: 2 });
  });

  test("an empty body is an empty ingest", async () => {
    expectSummary(await upload(version, []), { state: "completed", rows_written: 0, through_seq: 0 });
    const started = startHttpUpload(version, url, {});
    started.end();
    expectSummary(await started.reply, { state: "completed", rows_written: 0 });
  });

  test("resumes by Idempotency-Key, at the same cuts", async () => {
    const headers = { "idempotency-key": "one" };
    const rows = makeRows(250);
    const part = startHttpUpload(version, url, { ...NDJSON, ...headers });
    await part.write(lines(rows.slice(0, 210)));
    await part.write('{"finish":{"rows":1}}\n');
    part.end();
    expectRefusal(await part.reply, 400, { param: "finish.rows" });
    // The 10 rows after the second batch are one as well, for the body was whole.
    expect(await readIds(server, storeId)).toHaveLength(210);
    expectRefusal(await upload(version, [lines(rows)], { headers }), 400, { param: "finish.rows" });
    expectSummary(await upload(version, [lines(rows.slice(0, 210))], { headers }), {
      ingest_id: "one",
      rows_written: 210,
    });
    expect(await readIds(server, storeId)).toEqual(rows.slice(0, 210).map(({ id }) => id));
  });

  test("goes on after a cut connection with the same body again, no row lost and none doubled", async () => {
    const headers = { "idempotency-key": "one" };
    const rows = makeRows(500);
    const body = lines(rows);
    const first = startHttpUpload(version, url, { ...NDJSON, ...headers });
    await first.write(body.slice(0, body.length * 0.7));
    await expect.poll(() => readIds(server, storeId)).not.toEqual([]);
    first.cancel();
    await first.closed;
    await expectNoLeak(server);
    expect(await (await fetch(`${server.url}/v1/vector_stores/${storeId}/ingests/one`)).json()).toMatchObject(
      {
        state: "open",
      },
    );
    expectSummary(await upload(version, [body], { headers }), {
      state: "completed",
      rows_written: 500,
      rows_rejected: 0,
    });
    expect(await readIds(server, storeId)).toEqual(rows.map(({ id }) => id));
    await expectExactCounts(server, storeId);
  });
});

test("takes vectors as arrays and as base64, and all other fields", async () => {
  const rows = [
    {
      id: "a",
      content: "a",
      embedding: [1.5, -2.25],
      metadata: { a: [1, null, "x"] },
      created_at: 1_700_000_000,
    },
    { id: "b", content: "b", embedding: base64([1.5, -2.25]), metadata: null, created_at: null },
  ];
  expectSummary(await upload("1.1", [lines(rows)]), { rows_written: 2 });
  expect(await readRows(server, storeId)).toEqual([
    { id: "a", content: "a", embedding: [1.5, -2.25], metadata: { a: [1, null, "x"] } },
    { id: "b", content: "b", embedding: [1.5, -2.25], metadata: {} },
  ]);
});

const faults: [string, string | Buffer, { code: string; field: string; id?: string }][] = [
  ["is not JSON", '{"content": "x"', { code: "INVALID_JSON", field: "" }],
  ["has NUL in it", '{"content": "a\0b"}', { code: "INVALID_JSON", field: "" }],
  [
    "is not UTF-8",
    Buffer.concat([Buffer.from('{"content":"a'), Buffer.of(0xff), Buffer.from('"}')]),
    { code: "INVALID_JSON", field: "" },
  ],
  ["is no object", "[1]", { code: "INVALID_TYPE", field: "body" }],
  ["is null", "null", { code: "INVALID_TYPE", field: "body" }],
  ["has an unknown field", '{"content":"x","vector":[1,2]}', { code: "UNKNOWN_PARAMETER", field: "vector" }],
  ["has an unknown field with NUL", '{"a\\u0000":1}', { code: "UNKNOWN_PARAMETER", field: "a\uFFFD" }],
  [
    "has a text for a number",
    '{"content":"x","embedding":["1"]}',
    { code: "INVALID_TYPE", field: "embedding[0]" },
  ],
  ["has bad base64", '{"content":"x","embedding":"#"}', { code: "INVALID_VALUE", field: "embedding" }],
  [
    "has base64 of 7 bytes",
    `{"content":"x","embedding":"${Buffer.alloc(7, 1).toString("base64")}"}`,
    { code: "INVALID_VALUE", field: "embedding" },
  ],
  [
    "has a number beyond float32",
    '{"content":"x","embedding":[1,1e39]}',
    { code: "INVALID_VALUE", field: "embedding[1]" },
  ],
  [
    "has base64 of NaN",
    `{"content":"x","embedding":"${base64([1, NaN])}"}`,
    { code: "INVALID_VALUE", field: "embedding[1]" },
  ],
  [
    "has another length",
    '{"id":"bad","content":"x","embedding":[1]}',
    { code: "DIMENSION_MISMATCH", field: "embedding", id: "bad" },
  ],
  [
    "has a lone surrogate",
    '{"content":"\\ud800","embedding":[1,2]}',
    { code: "INVALID_VALUE", field: "content" },
  ],
  [
    "has a lone surrogate in metadata",
    '{"id":"bad","content":"x","embedding":[1,2],"metadata":{"a":"\\ud800"}}',
    { code: "INVALID_VALUE", field: "metadata", id: "bad" },
  ],
  [
    "has metadata of 40 levels",
    `{"id":"bad","content":"x","embedding":[1,2],"metadata":${'{"a":'.repeat(40)}1${"}".repeat(40)}}`,
    { code: "INVALID_VALUE", field: "metadata", id: "bad" },
  ],
  [
    "has a text for metadata",
    '{"content":"x","embedding":[1,2],"metadata":"x"}',
    { code: "INVALID_TYPE", field: "metadata" },
  ],
  [
    "has a fraction for a time",
    '{"content":"x","embedding":[1,2],"created_at":1.5}',
    { code: "INVALID_TYPE", field: "created_at" },
  ],
  [
    "has no text",
    '{"id":"bad","embedding":[1,2]}',
    { code: "MISSING_REQUIRED_PARAMETER", field: "content", id: "bad" },
  ],
];

test.each(faults)("a line that %s is a refused row", async (_, bad, { code, field, id = "" }) => {
  const body = Buffer.concat([
    Buffer.from(`${line("first")}\n`),
    Buffer.from(bad),
    Buffer.from(`\n${line("last")}\n`),
  ]);
  const reply = await upload("1.1", [body], { query: "?on_error=skip_row" });
  expectSummary(reply, { rows_written: 2, rows_rejected: 1, state: "completed" });
  expect(JSON.parse(reply.text)).toMatchObject({
    errors: [{ seq: 1, index: 1, id, code, field, message: expect.stringMatching(/\w/) }],
  });
  expect(await readIds(server, storeId)).toEqual(["first", "last"]);
});

test("the parameters of the query are the settings of the stream", async () => {
  await upload("1.1", [lines([{ id: "a", content: "old", embedding: [1, 2] }])]);
  const row = lines([{ id: "a", content: "new", embedding: [1, 2] }]);
  const query = "?mode=skip_existing&atomicity=batch&on_error=abort&dimensions=2&max_row_errors=5";
  expectSummary(await upload("1.1", [row], { query, headers: { "idempotency-key": "k" } }), {
    rows_skipped: 1,
  });
  const { rows } = await pool.query(
    "select parameters from pgquiver_ingests where ingest_id = 'k' and vector_store_id = $1",
    [storeId],
  );
  expect(new Set(Object.values(rows[0].parameters as object))).toEqual(
    new Set([2, 5, "abort", "batch", "skip_existing"]),
  );
  expectSummary(await upload("1.1", [row], { query: "?mode=upsert" }), { rows_written: 1 });
  expect(await readRows(server, storeId)).toMatchObject([{ content: "new" }]);
});

test.each([
  ["?mode=replace", "mode"],
  ["?mode=INSERT", "mode"],
  ["?atomicity=rows", "atomicity"],
  ["?on_error=ignore", "on_error"],
  ["?atomicity=stream&on_error=abort_batch", "open.on_error"],
  ["?dimensions=two", "dimensions"],
  ["?dimensions=0", "open.dimensions"],
  ["?max_row_errors=1001", "open.max_row_errors"],
  ["?ingest_id=a", "ingest_id"],
  ["?vector_store_id=a", "vector_store_id"],
  ["?speed=9", "speed"],
  ["?mode=insert&mode=upsert", "mode"],
])("the query %s is refused", async (query, param) => {
  const reply = await upload("1.1", [lines(makeRows(1))], { query });
  expectRefusal(reply, 400, { type: "invalid_request_error", param });
  expect(await readIds(server, storeId)).toEqual([]);
});

test("other requests that are refused", async () => {
  const body = lines(makeRows(1));
  expectRefusal(await upload("1.1", [body], { headers: { "content-type": "application/json" } }), 415, {
    code: "invalid_request",
  });
  expectRefusal(await upload("1.1", [body], { headers: { "content-encoding": "br" } }), 400, {
    code: "invalid_request",
  });
  expectRefusal(await upload("1.1", [body], { headers: { "idempotency-key": "a b" } }), 400, {
    param: "open.ingest_id",
  });
  url = `${server.url}/v1/vector_stores/vs_none/embeddings/ingest`;
  expectRefusal(await upload("1.1", [body]), 404, { param: "vector_store_id" });
});

test.each([
  "application/x-ndjson; charset=utf-8",
  "application/ndjson",
  "application/jsonl",
  "Application/X-NDJSON",
])("the content type %s is as good", async (type) => {
  expectSummary(await upload("1.1", [lines(makeRows(1))], { headers: { "content-type": type } }), {
    rows_written: 1,
  });
});

test("POST does the same as PUT", async () => {
  const { status } = await send(url, "POST", lines(makeRows(2)), NDJSON);
  expect(status).toBe(200);
  expect(await readIds(server, storeId)).toHaveLength(2);
});

test("a line of 5 MiB is refused, and the batches before are kept", async () => {
  const rows = makeRows(100);
  const reply = await upload("1.1", [
    lines(rows),
    line("extra"),
    "\n",
    '{"content":"',
    "x".repeat(5 * 1024 * 1024),
    '"}\n',
  ]);
  expectRefusal(reply, 413, { code: "request_too_large" });
  expect(await readIds(server, storeId)).toEqual(rows.map(({ id }) => id));
  await expectExactCounts(server, storeId);
});

test("long lines make batches of fewer than 100", async () => {
  const rows = makeRows(20).map((row) => ({ ...row, content: "x".repeat(1024 * 1024 - 100) }));
  expectSummary(await upload("1.1", [lines(rows)]), { rows_written: 20, through_seq: 4 });
});

test("the ingests over HTTP and over gRPC are the same, and can be looked up and given up", async () => {
  const ingests = `${server.url}/v1/vector_stores/${storeId}/ingests`;
  expect((await send(`${ingests}/one`, "GET")).status).toBe(404);
  await upload("1.1", [`${lines(makeRows(2))}{"finish":{"rows":9}}\n`], {
    headers: { "idempotency-key": "one" },
  });
  expect(JSON.parse((await send(`${ingests}/one`, "GET")).text)).toMatchObject({
    state: "open",
    rows_written: 2,
  });
  expect(JSON.parse((await send(`${ingests}/one/abort`, "POST")).text)).toMatchObject({
    state: "aborted",
    through_seq: 1,
  });
  const reply = await upload("1.1", [lines(makeRows(3))], { headers: { "idempotency-key": "one" } });
  expectRefusal(reply, 400, { code: "ingest_conflict", param: "open.ingest_id" });
});
