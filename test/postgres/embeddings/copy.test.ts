import { Buffer } from "node:buffer";
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, expect, inject, test } from "vitest";
import { CopyEncoder, copyRows, decodeVector, encodeVector } from "../../../src/postgres/copy.ts";
import { openTestDatabase } from "../../support/databases/database.ts";

interface Row {
  id: string;
  content: string | null;
  metadata: unknown;
  embedding: Float32Array;
  created_at: Date;
  chunk_index: number | null;
}

/** Some tests need a second connection to the same database, which the embedded one does not have. */
const native = inject("template").kind === "postgres";

const copySql =
  "copy items (id, content, metadata, embedding, created_at, chunk_index) from stdin (format binary)";

let database: Awaited<ReturnType<typeof openTestDatabase>>;
let client: pg.PoolClient;

beforeAll(async () => {
  database = await openTestDatabase();
  await database.pool.query(`
    create table items (
      id text primary key, content text, metadata jsonb, embedding vector, created_at timestamptz, chunk_index int
    )`);
});

beforeEach(async () => {
  client = await database.pool.connect();
  await client.query("truncate items");
  return () => client.release();
});

afterAll(async () => {
  await database.close();
});

test("reads back the rows it copied", async () => {
  const rows: Row[] = [
    itemOf("plain"),
    { ...itemOf(""), content: "", metadata: {}, chunk_index: null },
    { ...itemOf("none"), content: null, metadata: null, chunk_index: -1 },
    {
      ...itemOf("😀 é e\u0301 \uffff"),
      content: "😀".repeat(100_000),
      metadata: { "😀": ['"', "\\", null, 1e21] },
    },
    { ...itemOf("longest vector"), embedding: Float32Array.from({ length: 16_000 }, (_, i) => Math.sin(i)) },
    { ...itemOf("early"), created_at: new Date("0001-01-01T00:00:00Z"), chunk_index: 2 ** 31 - 1 },
    { ...itemOf("late"), created_at: new Date("9999-12-31T23:59:59.999Z"), chunk_index: -(2 ** 31) },
  ];
  expect(await copyRows(client, copySql, segmentOf(rows))).toBe(rows.length);
  expect(await readItems()).toEqual(byId(rows));
});

test("keeps rows whole across chunks, from a source of either kind", async () => {
  const rows = Array.from({ length: 2_000 }, (_, i) => ({
    ...itemOf(`row ${i}`),
    content: "€".repeat((i * 37) % 1_000),
    embedding: new Float32Array(1 + (i % 300)).fill(i),
  }));
  const segments = [rows.slice(0, 1_000), rows.slice(1_000)].map(segmentOf);
  expect(segments.every((segment) => segment.length > 3)).toBe(true);
  const [first = [], second = []] = segments;
  expect(await copyRows(client, copySql, first)).toBe(1_000);
  expect(await copyRows(client, copySql, later(second))).toBe(1_000);
  expect(await readItems()).toEqual(byId(rows));
});

test("copies an empty segment", async () => {
  expect(await copyRows(client, copySql, new CopyEncoder().takeSegment())).toBe(0);
});

test("one bad row keeps all out and leaves the client usable", async () => {
  const rows = manyItems(3_000);
  const bad = { ...itemOf("bad"), embedding: Float32Array.of(1, NaN) };
  await expect(copyRows(client, copySql, segmentOf([bad, ...rows]))).rejects.toMatchObject({ code: "22000" });
  await expect(copyRows(client, copySql, segmentOf([...rows, bad]))).rejects.toMatchObject({ code: "22000" });
  expect(await readItems()).toEqual(new Map());
  expect(await copyRows(client, copySql, segmentOf(rows))).toBe(rows.length);
});

test("a duplicate, found only after the last row, is the error", async () => {
  const rows = [itemOf("a"), itemOf("b"), itemOf("a")];
  await expect(copyRows(client, copySql, segmentOf(rows))).rejects.toMatchObject({
    code: "23505",
    constraint: "items_pkey",
  });
});

test("a missing table is the error, however much there is to send", async () => {
  const chunk = Buffer.alloc(256 * 1024);
  const sql = "copy nowhere from stdin (format binary)";
  await expect(
    copyRows(
      client,
      sql,
      Array.from({ length: 100 }, () => chunk),
    ),
  ).rejects.toMatchObject({
    code: "42P01",
  });
  expect(await copyRows(client, copySql, segmentOf([itemOf("a")]))).toBe(1);
});

test.each([
  ["before the first chunk", 0],
  ["between chunks", 2],
])("the source's own error %s aborts the copy", async (_when, chunksBefore) => {
  // A code that Node's own streams use: nothing may take it for theirs.
  const failure = Object.assign(new Error("The caller went away."), { code: "ERR_STREAM_PREMATURE_CLOSE" });
  async function* source() {
    yield* segmentOf(manyItems(3_000)).slice(0, chunksBefore);
    throw failure;
  }
  await expect(copyRows(client, copySql, source())).rejects.toBe(failure);
  expect(await readItems()).toEqual(new Map());
  expect(await copyRows(client, copySql, segmentOf([itemOf("a")]))).toBe(1);
});

test("a failed copy inside a transaction can be rolled back to a savepoint", async () => {
  await client.query("begin");
  await copyRows(client, copySql, segmentOf([itemOf("a")]));
  await client.query("savepoint before_second");
  await expect(copyRows(client, copySql, segmentOf([itemOf("a")]))).rejects.toMatchObject({ code: "23505" });
  await client.query("rollback to savepoint before_second");
  await copyRows(client, copySql, segmentOf([itemOf("b")]));
  await client.query("commit");
  expect([...(await readItems()).keys()].sort()).toEqual(["a", "b"]);
});

test("removes its listeners, after success and after failure", async () => {
  const before = client.listenerCount("error");
  await copyRows(client, copySql, segmentOf([itemOf("a")]));
  expect(client.listenerCount("error")).toBe(before);
  await expect(copyRows(client, copySql, segmentOf([itemOf("a")]))).rejects.toThrow();
  expect(client.listenerCount("error")).toBe(before);
});

test.runIf(native)("the loss of the backend is the error, and ends nothing but the client", async () => {
  const lost = await database.pool.connect();
  // Nobody else hears what becomes of the connection.
  lost.removeAllListeners("error");
  await client.query("begin");
  await client.query("lock table items");
  const copying = copyRows(lost, copySql, segmentOf(manyItems(3_000)));
  const failure = expect(copying).rejects.toMatchObject({ code: "57P01" });
  await client.query("select pg_terminate_backend($1::int)", [await waitingBackend(client)]);
  await failure;
  await expect(lost.query("select 1")).rejects.toThrow("not queryable");
  lost.release(true);
  await client.query("rollback");
  expect(await readItems()).toEqual(new Map());
});

test.runIf(native)("the loss of the backend is the error while the source has more to give", async () => {
  const lost = await database.pool.connect();
  const { rows } = await lost.query("select pg_backend_pid() as pid");
  async function* source() {
    const [head = Buffer.of(), ...rest] = segmentOf(manyItems(3_000));
    yield head;
    await client.query("select pg_terminate_backend($1::int, 10000)", [rows[0].pid]);
    yield* rest;
  }
  await expect(copyRows(lost, copySql, source())).rejects.toMatchObject({ code: "57P01" });
  lost.release(true);
});

test("a client closed in the middle fails the copy", async () => {
  async function* source() {
    const [head = Buffer.of(), ...rest] = segmentOf(manyItems(3_000));
    yield head;
    client.release(true);
    yield* rest;
  }
  await expect(copyRows(client, copySql, source())).rejects.toThrow("Connection terminated");
  client = await database.pool.connect();
  expect(await readItems()).toEqual(new Map());
});

test.runIf(native)("takes no more from the source than Postgres takes", async () => {
  const other = await database.pool.connect();
  await other.query("begin");
  await other.query("insert into items (id) values ('contended')");
  // The first row waits for the other transaction, and what comes after it waits behind it: a thousand
  // rows in the server, which inserts that many at once, then some megabytes between the sockets.
  const large = manyItems(40).map((item, i) => ({
    ...item,
    id: `large ${i}`,
    content: "x".repeat(1_000_000),
  }));
  const segment = segmentOf([itemOf("contended"), ...manyItems(1_000), ...large]);
  let chunksTaken = 0;
  function* source() {
    for (const chunk of segment) {
      chunksTaken++;
      yield chunk;
    }
  }
  const copying = copyRows(client, copySql, source());
  await waitingBackend(other);
  let before: number;
  do {
    before = chunksTaken;
    for (let trip = 0; trip < 50; trip++) await other.query("select 1");
  } while (chunksTaken > before);
  expect(chunksTaken).toBeLessThan(segment.length / 2);
  await other.query("rollback");
  other.release();
  expect(await copying).toBe(1_041);
});

test("takes vectors as binary parameters and gives them back", async () => {
  const vector = Float32Array.of(0.1, -2.5, 1e-20);
  const { rows } = await client.query("select $1::vector as numbers, vector_send($1::vector) as wire", [
    encodeVector(vector),
  ]);
  expect(rows[0].numbers).toEqual([0.1, -2.5, 1e-20]);
  expect(decodeVector(rows[0].wire)).toEqual(vector);
});

/** Waits until a backend waits for a lock in this database, and gives its process id. */
async function waitingBackend(observer: pg.PoolClient): Promise<number> {
  for (;;) {
    const { rows } = await observer.query(
      "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'",
    );
    if (rows.length > 0) return rows[0].pid;
  }
}

function itemOf(id: string): Row {
  return {
    id,
    content: `text of ${id}`,
    metadata: { id },
    embedding: Float32Array.of(1, 2, 3),
    created_at: new Date("2026-11-22T10:20:30.456Z"),
    chunk_index: 7,
  };
}

function manyItems(count: number): Row[] {
  return Array.from({ length: count }, (_, i) => itemOf(`row ${i}`));
}

function segmentOf(rows: Row[]): Buffer[] {
  const encoder = new CopyEncoder();
  for (const row of rows) writeItem(encoder, row);
  return encoder.takeSegment();
}

function writeItem(encoder: CopyEncoder, row: Row): void {
  encoder.startRow(6);
  encoder.text(row.id);
  if (row.content === null) encoder.null();
  else encoder.text(row.content);
  if (row.metadata === null) encoder.null();
  else encoder.jsonb(JSON.stringify(row.metadata));
  encoder.vector(row.embedding);
  encoder.timestamptz(row.created_at);
  if (row.chunk_index === null) encoder.null();
  else encoder.int4(row.chunk_index);
}

async function* later<T>(values: T[]): AsyncGenerator<T> {
  for (const value of values) {
    await new Promise(setImmediate);
    yield value;
  }
}

/** All rows, by id. */
async function readItems(): Promise<Map<string, Row>> {
  const { rows } = await client.query(
    "select id, content, metadata, vector_send(embedding) as embedding, created_at, chunk_index from items",
  );
  return byId(rows.map((row) => ({ ...row, embedding: decodeVector(row.embedding) })));
}

function byId(rows: Row[]): Map<string, Row> {
  return new Map(rows.map((row) => [row.id, row]));
}
