import { afterAll, beforeEach, describe, expect, test } from "vitest";
import {
  connectNode,
  grpcJs,
  grpcJsBytes,
  type IngestMessage,
  type Row,
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
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const client = grpcJs.connect(server);
const { pool } = server.database;
afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

let storeId: string;
beforeEach(async () => {
  storeId = await createStore(server, { dimensions: 2 });
});

const skipRow = { on_error: "ON_ERROR_SKIP_ROW" };

/** 100 batches of 100 rows, of which one row in the middle has a NaN. */
function withOneBadRow(): { messages: IngestMessage[]; ids: string[] } {
  const rows = makeRows(10_000);
  (rows[5_042] as Row).embedding = [1, NaN];
  const messages = Array.from({ length: 100 }, (_, index) =>
    batch(index + 1, rows.slice(index * 100, index * 100 + 100)),
  );
  return { messages, ids: rows.map(({ id }) => id as string) };
}

const theBadRow = {
  seq: 51,
  index: 42,
  id: "r005042",
  code: "INVALID_VALUE",
  field: "embedding[1]",
  message: "Invalid 'embedding[1]': expected a finite number within the range of float32.",
};

describe.each([grpcJs, connectNode])("one bad row in 10,000, sent with $name", (library) => {
  const other = library.connect(server);
  afterAll(() => other[Symbol.asyncDispose]());

  test("skip_row leaves out that row alone", async () => {
    const { messages, ids } = withOneBadRow();
    const summary = await ingestAll(other, [
      open(storeId, skipRow),
      ...messages,
      { finish: { rows: 10_000 } },
    ]);
    expect(summary).toMatchObject({ rows_written: 9_999, rows_skipped: 0, rows_rejected: 1 });
    expect(summary.errors).toEqual([theBadRow]);
    expect(await readIds(server, storeId)).toEqual(ids.filter((id) => id !== "r005042"));
    await expectExactCounts(server, storeId);
  });

  test("abort_batch leaves out its batch, and that is what a stream does by default", async () => {
    const { messages, ids } = withOneBadRow();
    const summary = await ingestAll(other, [open(storeId), ...messages, { finish: { rows: 10_000 } }]);
    expect(summary).toMatchObject({
      rows_written: 9_900,
      rows_skipped: 0,
      rows_rejected: 100,
      through_seq: 100,
    });
    expect(summary.errors).toEqual([theBadRow]);
    expect(await readIds(server, storeId)).toEqual(ids.filter((id) => id < "r005000" || id >= "r005100"));
    await expectExactCounts(server, storeId);
  });

  test("abort ends the stream there, keeps the batches before, and the ingest can go on", async () => {
    const { messages, ids } = withOneBadRow();
    const settings = { ingest_id: "one", on_error: "ON_ERROR_ABORT" };
    await expect(ingestAll(other, [open(storeId, settings), ...messages])).rejects.toMatchObject({
      code: "invalid_argument",
      reason: "INVALID_VALUE",
      param: "rows[42].embedding[1]",
      message: expect.stringContaining("batch 51, row 42"),
    });
    expect(await readIds(server, storeId)).toEqual(ids.filter((id) => id < "r005000"));
    const key = { vector_store_id: storeId, ingest_id: "one" };
    expect(await other.call("GetIngest", key)).toMatchObject({
      state: "INGEST_STATE_OPEN",
      through_seq: 50,
      rows_written: 5_000,
      rows_rejected: 0,
    });
    const rest = [batch(51, makeRows(1, "z")), { finish: { rows: 5_001 } }];
    expect(await ingestAll(other, [open(storeId, settings), ...rest])).toMatchObject({
      state: "INGEST_STATE_COMPLETED",
      rows_written: 5_001,
    });
    await expectExactCounts(server, storeId);
    await expectNoLeak(server);
  });
});

function nested(levels: number): unknown {
  return levels === 1 ? { end: true } : { a: nested(levels - 1) };
}

const good = { content: "good", embedding: [1, 2] };
const refusals: [string, Row, { code: string; field: string }][] = [
  ["too few dimensions", { ...good, embedding: [1] }, { code: "DIMENSION_MISMATCH", field: "embedding" }],
  [
    "too many dimensions",
    { ...good, embedding: [1, 2, 3] },
    { code: "DIMENSION_MISMATCH", field: "embedding" },
  ],
  [
    "more dimensions than there can be",
    { ...good, embedding: Array(16_001).fill(1) },
    { code: "ARRAY_ABOVE_MAX_LENGTH", field: "embedding" },
  ],
  ["NaN", { ...good, embedding: [NaN, 1] }, { code: "INVALID_VALUE", field: "embedding[0]" }],
  ["an infinity", { ...good, embedding: [1, Infinity] }, { code: "INVALID_VALUE", field: "embedding[1]" }],
  [
    "a negative infinity",
    { ...good, embedding: [-Infinity, 1] },
    { code: "INVALID_VALUE", field: "embedding[0]" },
  ],
  [
    "a number beyond float32",
    { ...good, embedding: [1e39, 1] },
    { code: "INVALID_VALUE", field: "embedding[0]" },
  ],
  ["zeros only", { ...good, embedding: [0, -0] }, { code: "INVALID_VALUE", field: "embedding" }],
  ["no text", { embedding: [1, 2] }, { code: "MISSING_REQUIRED_PARAMETER", field: "content" }],
  ["NUL in the text", { ...good, content: "a\0b" }, { code: "INVALID_VALUE", field: "content" }],
  [
    "a text of more than 1 MiB",
    { ...good, content: "ä".repeat(524_289) },
    { code: "STRING_ABOVE_MAX_LENGTH", field: "content" },
  ],
  ["an id that is too long", { ...good, id: "i".repeat(129) }, { code: "INVALID_VALUE", field: "id" }],
  ["other characters in the id", { ...good, id: "a/b" }, { code: "INVALID_VALUE", field: "id" }],
  ["NUL in the id", { ...good, id: "a\0b" }, { code: "INVALID_VALUE", field: "id" }],
  [
    "metadata of more than 64 KiB",
    { ...good, metadata: { a: "x".repeat(65_536) } },
    { code: "STRING_ABOVE_MAX_LENGTH", field: "metadata" },
  ],
  ["metadata of 33 levels", { ...good, metadata: nested(33) }, { code: "INVALID_VALUE", field: "metadata" }],
  ["metadata of 45 levels", { ...good, metadata: nested(45) }, { code: "INVALID_VALUE", field: "metadata" }],
  ["NUL in metadata", { ...good, metadata: { a: "\0" } }, { code: "INVALID_VALUE", field: "metadata" }],
  [
    "NUL in a key of metadata",
    { ...good, metadata: { "\0": 1 } },
    { code: "INVALID_VALUE", field: "metadata" },
  ],
  ["NaN in metadata", { ...good, metadata: { a: [NaN] } }, { code: "INVALID_VALUE", field: "metadata" }],
  ["a time before 1970", { ...good, created_at: -1 }, { code: "INVALID_VALUE", field: "created_at" }],
  [
    "a time after the year 9999",
    { ...good, created_at: 253_402_300_800 },
    { code: "INVALID_VALUE", field: "created_at" },
  ],
  ["an id that is taken", { ...good, id: "first" }, { code: "ALREADY_EXISTS", field: "id" }],
];

/** The id as a fault shows it: a text that Postgres can keep. */
const shown = (id = "") => id.slice(0, 128).replace("\0", "\uFFFD");

test.each(refusals)(
  "a row with %s is refused, and its neighbours are stored",
  async (_, bad, { code, field }) => {
    const rows = [
      { ...good, id: "first" },
      { id: "bad", ...bad },
      { ...good, id: "last" },
    ];
    const summary = await ingestAll(client, [
      open(storeId, skipRow),
      batch(1, rows),
      { finish: { rows: 3 } },
    ]);
    expect(summary).toMatchObject({ rows_written: 2, rows_rejected: 1 });
    expect(summary.errors).toEqual([
      { seq: 1, index: 1, id: shown(bad.id ?? "bad"), code, field, message: expect.stringMatching(/\w/) },
    ]);
    expect(await readIds(server, storeId)).toEqual(["first", "last"]);
    await expectExactCounts(server, storeId);
  },
);

test("a row at every limit is stored", async () => {
  const id = "i".repeat(128);
  const row = {
    id,
    content: "ä".repeat(524_288),
    embedding: [1e-45, -3.4e38],
    metadata: { ...(nested(32) as object), b: "x".repeat(65_000) },
    created_at: 253_402_300_799,
  };
  const summary = await ingestAll(client, [open(storeId), batch(1, [row]), { finish: { rows: 1 } }]);
  expect(summary).toMatchObject({ rows_written: 1, errors: [] });
  expect(await readIds(server, storeId)).toEqual([id]);
});

test("vector bytes that are no whole number of floats are refused", async () => {
  await using bytes = grpcJsBytes.connect(server);
  const rows = [
    { id: "bad", content: "bad", bytes: Buffer.alloc(7, 1) },
    { id: "good", content: "good", bytes: Buffer.alloc(8, 1) },
  ];
  const summary = await ingestAll(bytes, [open(storeId, skipRow), batch(1, rows), { finish: { rows: 2 } }]);
  expect(summary.errors).toMatchObject([
    { seq: 1, index: 0, id: "bad", code: "INVALID_VALUE", field: "embedding" },
  ]);
  expect(await readIds(server, storeId)).toEqual(["good"]);
});

test("several faults of a batch are listed in the order of its rows", async () => {
  const rows = makeRows(6);
  (rows[1] as Row).embedding = [NaN, 1];
  (rows[3] as Row).id = (rows[0] as Row).id as string;
  (rows[5] as Row).content = "";
  const summary = await ingestAll(client, [
    open(storeId),
    batch(1, rows),
    batch(2, makeRows(1)),
    { finish: { rows: 7 } },
  ]);
  expect(summary.errors.map(({ seq, index }) => [seq, index])).toEqual([
    [1, 1],
    [1, 3],
    [1, 5],
  ]);
  expect(summary).toMatchObject({ rows_written: 1, rows_rejected: 6 });
  expect(await readIds(server, storeId)).toEqual(["r000000"]);
});

test("max_row_errors caps the list and not the counts, also across resumes", async () => {
  const bad = (count: number) => makeRows(count).map((row) => ({ ...row, content: "" }));
  const opening = open(storeId, { ingest_id: "one", max_row_errors: 5, ...skipRow });
  const places = (errors: { seq: number; index: number }[]) => errors.map(({ seq, index }) => [seq, index]);
  const first = await ingestAll(client, [opening, batch(1, bad(3))]);
  expect(first).toMatchObject({ state: "INGEST_STATE_OPEN", rows_rejected: 3 });
  const { send, end, next } = client.session();
  await send(opening);
  expect(await next()).toMatchObject({ opened: { resume_after_seq: 1 } });
  await send(batch(1, bad(3)));
  await send(batch(2, [...bad(4), ...makeRows(2)]));
  const { committed } = (await next()) ?? {};
  expect(committed).toMatchObject({ through_seq: 2, rows_written: 2, rows_rejected: 4 });
  expect(places(committed?.errors ?? [])).toEqual([
    [2, 0],
    [2, 1],
  ]);
  await send({ finish: { rows: 9 } });
  end();
  const { summary } = (await next()) ?? {};
  expect(summary).toMatchObject({ rows_written: 2, rows_rejected: 7 });
  expect(places(summary?.errors ?? [])).toEqual([
    [1, 0],
    [1, 1],
    [1, 2],
    [2, 0],
    [2, 1],
  ]);
});

test.each([
  [0, 0],
  [undefined, 100],
  [1_000, 200],
])("with max_row_errors %s, %i of 200 faults are listed", async (max, listed) => {
  const rows = makeRows(200).map((row) => ({ ...row, content: "" }));
  const settings = { ...skipRow, ...(max !== undefined && { max_row_errors: max }) };
  const summary = await ingestAll(client, [
    open(storeId, settings),
    batch(1, rows),
    { finish: { rows: 200 } },
  ]);
  expect(summary).toMatchObject({ rows_written: 0, rows_rejected: 200 });
  expect(summary.errors).toHaveLength(listed);
});

const broken: [
  string,
  (storeId: string) => IngestMessage[],
  { code: string; param: string; reason?: string },
][] = [
  ["no open", () => [batch(1, makeRows(1))], { code: "invalid_argument", param: "open" }],
  ["nothing at all", () => [], { code: "invalid_argument", param: "open" }],
  ["two opens", (id) => [open(id), open(id)], { code: "invalid_argument", param: "message" }],
  ["no store", () => [open("")], { code: "invalid_argument", param: "open.vector_store_id" }],
  [
    "a bad ingest_id",
    (id) => [open(id, { ingest_id: "a b" })],
    { code: "invalid_argument", param: "open.ingest_id" },
  ],
  ["an unknown mode", (id) => [open(id, { mode: 9 })], { code: "invalid_argument", param: "open.mode" }],
  [
    "an unknown atomicity",
    (id) => [open(id, { atomicity: 9 })],
    { code: "invalid_argument", param: "open.atomicity" },
  ],
  [
    "an unknown on_error",
    (id) => [open(id, { on_error: 9 })],
    { code: "invalid_argument", param: "open.on_error" },
  ],
  [
    "abort_batch of a whole stream",
    (id) => [open(id, { atomicity: "ATOMICITY_STREAM", on_error: "ON_ERROR_ABORT_BATCH" })],
    { code: "invalid_argument", param: "open.on_error" },
  ],
  [
    "other dimensions",
    (id) => [open(id, { dimensions: 3 })],
    { code: "invalid_argument", param: "open.dimensions" },
  ],
  [
    "no dimensions",
    (id) => [open(id, { dimensions: 0 })],
    { code: "invalid_argument", param: "open.dimensions" },
  ],
  [
    "too many listed errors",
    (id) => [open(id, { max_row_errors: 1_001 })],
    { code: "invalid_argument", param: "open.max_row_errors" },
  ],
  [
    "a batch without seq",
    (id) => [open(id), batch(0, makeRows(1))],
    { code: "invalid_argument", param: "batch.seq" },
  ],
  [
    "a negative seq",
    (id) => [open(id), batch(-1, makeRows(1))],
    { code: "invalid_argument", param: "batch.seq", reason: "INTEGER_BELOW_MIN_VALUE" },
  ],
  [
    "a negative number of rows",
    (id) => [open(id), { finish: { rows: -1 } }],
    { code: "invalid_argument", param: "finish.rows", reason: "INTEGER_BELOW_MIN_VALUE" },
  ],
  [
    "a negative number of listed errors",
    (id) => [open(id, { max_row_errors: -1 })],
    { code: "invalid_argument", param: "open.max_row_errors", reason: "INTEGER_BELOW_MIN_VALUE" },
  ],
  [
    "a batch without rows",
    (id) => [open(id), batch(1, [])],
    { code: "invalid_argument", param: "batch.rows" },
  ],
  [
    "10,001 rows in a batch",
    (id) => [open(id), batch(1, makeRows(10_001))],
    { code: "invalid_argument", param: "batch.rows" },
  ],
];

test.each(broken)("a stream with %s is refused", async (_, messages, expected) => {
  await expect(ingestAll(client, messages(storeId))).rejects.toMatchObject(expected);
  expect(await readIds(server, storeId)).toEqual([]);
  await expectNoLeak(server);
});

test("what came before the message that breaks a stream is stored", async () => {
  await expect(
    ingestAll(client, [
      open(storeId, { ingest_id: "one" }),
      batch(1, makeRows(2)),
      batch(3, makeRows(2, "s")),
    ]),
  ).rejects.toMatchObject({
    code: "invalid_argument",
    param: "batch.seq",
    message: expect.stringContaining("expected 2"),
  });
  expect(await readIds(server, storeId)).toEqual(["r000000", "r000001"]);
  const { rows } = await pool.query("select through_seq from pgquiver_ingests where vector_store_id = $1", [
    storeId,
  ]);
  expect(rows).toEqual([{ through_seq: "1" }]);
});
