import { afterAll, beforeEach, expect, test } from "vitest";
import { embedderAt } from "../../support/servers/embedder.ts";
import { startEmbeddingServer, vectorOf } from "../../support/servers/embedding-server.ts";
import { grpcJs, type Row } from "../../support/clients/ingest-client.ts";
import {
  batch,
  createStore,
  expectExactCounts,
  expectNoLeak,
  ingestAll,
  open,
  readIds,
  readRows,
} from "../../support/stores/ingest-store.ts";
import { startServer } from "../../support/servers/server.ts";

const DIMENSIONS = 4;
const BATCH_TEXTS = 16;

const provider = await startEmbeddingServer({ dimensions: DIMENSIONS });
const server = await startServer({
  embedder: embedderAt(provider.url, { batchTextsMax: BATCH_TEXTS }),
  ingest: { idleMs: 1_000 },
});
const client = grpcJs.connect(server);
afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  await provider[Symbol.asyncDispose]();
});

let storeId: string;
let asked: number;
beforeEach(async () => {
  storeId = await createStore(server);
  asked = provider.requests.length;
});

/** The texts of each request to the provider since the test began. */
const requests = () => provider.requests.slice(asked).map(({ body }) => body.input);
const texts = (count: number, first = 0): Row[] =>
  Array.from({ length: count }, (_, index) => ({
    id: `t${first + index + 100}`,
    content: `word${first + index}`,
  }));

async function readVectors(): Promise<Map<string, number[]>> {
  const rows = await readRows(server, storeId);
  return new Map(rows.map(({ id, embedding }) => [id, embedding]));
}

test("rows without a vector get that of their text, in requests of the provider's size", async () => {
  const rows = texts(100);
  const summary = await ingestAll(client, [
    open(storeId),
    batch(1, rows.slice(0, 50)),
    batch(2, rows.slice(50)),
    { finish: { rows: 100 } },
  ]);
  expect(summary).toMatchObject({ rows_written: 100, errors: [] });
  const vectors = await readVectors();
  for (const { id, content } of rows) {
    const expected = [...vectorOf(content as string, DIMENSIONS)];
    const got = vectors.get(id as string) ?? [];
    for (const [index, number] of got.entries()) expect(number).toBeCloseTo(expected[index] as number, 5);
    expect(got).toHaveLength(DIMENSIONS);
  }
  const sizes = requests().map((input) => input.length);
  expect(Math.max(...sizes)).toBeLessThanOrEqual(BATCH_TEXTS);
  expect(sizes.filter((size) => size === BATCH_TEXTS).length).toBeGreaterThanOrEqual(6);
  expect(requests().flat().toSorted()).toEqual(rows.map(({ content }) => content as string).toSorted());
  const { rows: stores } = await server.database.pool.query(
    "select dimensions, embedding_model from vector_stores where id = $1",
    [storeId],
  );
  expect(stores).toEqual([{ dimensions: DIMENSIONS, embedding_model: "test-embedding" }]);
  await expectExactCounts(server, storeId);
});

test("one stream brings rows of both kinds, and only those without a vector are embedded", async () => {
  const rows = texts(20).map((row, index) =>
    index % 2 === 0 ? row : { ...row, embedding: [index, 0, 0, 1] },
  );
  await ingestAll(client, [open(storeId), batch(1, rows), { finish: { rows: 20 } }]);
  expect(requests().flat().toSorted()).toEqual(
    rows
      .filter((_, index) => index % 2 === 0)
      .map(({ content }) => content as string)
      .toSorted(),
  );
  const vectors = await readVectors();
  expect(vectors.get("t107")).toEqual([7, 0, 0, 1]);
  expect(vectors.get("t106")?.[0]).toBeCloseTo(vectorOf("word6", DIMENSIONS)[0] as number, 5);
});

test("no text of a batch that is refused anyway is embedded", async () => {
  const summary = await ingestAll(client, [
    open(storeId),
    batch(1, [...texts(2), { id: "bad", content: "" }]),
    batch(2, texts(1, 50)),
    { finish: { rows: 4 } },
  ]);
  expect(summary).toMatchObject({ rows_written: 1, rows_rejected: 3 });
  expect(requests()).toEqual([["word50"]]);
});

test.each([
  [
    "refuses",
    { status: 400, body: { error: { message: "no" } } },
    "invalid_argument",
    "EMBEDDING_PROVIDER_REFUSED",
  ],
  ["fails", { status: 500, body: {} }, "unavailable", "EMBEDDING_PROVIDER_UNAVAILABLE"],
  ["is cut off", { fault: "cut" as const }, "unavailable", "EMBEDDING_PROVIDER_UNAVAILABLE"],
])(
  "a provider that %s ends the stream; what was acknowledged stays, and it goes on from there",
  async (...args) => {
    const [, behaviour, , reason] = args;
    const { send, next } = client.session();
    await send(open(storeId, { ingest_id: "one" }));
    await next();
    await send(batch(1, texts(3)));
    expect(await next()).toMatchObject({ committed: { through_seq: 1, rows_written: 3 } });
    provider.next(behaviour);
    await send(batch(2, texts(3, 3)));
    await expect(next()).rejects.toMatchObject({ reason });
    expect(await readIds(server, storeId)).toEqual(["t100", "t101", "t102"]);
    await expectExactCounts(server, storeId);
    await expectNoLeak(server);
    const summary = await ingestAll(client, [
      open(storeId, { ingest_id: "one" }),
      batch(2, texts(3, 3)),
      { finish: { rows: 6 } },
    ]);
    expect(summary).toMatchObject({ rows_written: 6 });
  },
);

test("a whole stream is rolled back when the provider fails in it", async () => {
  const settings = { ingest_id: "one", atomicity: "ATOMICITY_STREAM" };
  const { send, next } = client.session();
  await send(open(storeId, settings));
  await next();
  await send(batch(1, texts(3)));
  await provider.received(asked + 1);
  provider.next({ status: 500, body: {} });
  await send(batch(2, texts(3, 3)));
  await send({ finish: { rows: 6 } });
  await expect(next()).rejects.toMatchObject({ reason: "EMBEDDING_PROVIDER_UNAVAILABLE" });
  expect(await readIds(server, storeId)).toEqual([]);
  await expectNoLeak(server);
});

test("a stream that is cancelled while the provider works gives up the request and stores nothing", async () => {
  provider.next({ fault: "silence" });
  const session = client.session();
  await session.send(open(storeId));
  await session.next();
  await session.send(batch(1, texts(1)));
  await provider.received(asked + 1);
  session.cancel();
  expect(await provider.requests[asked]?.abandoned).toBe(true);
  await expectNoLeak(server);
  expect(await readIds(server, storeId)).toEqual([]);
});

test("a client that waits for its acknowledgement is not taken to be silent, however long that takes", async () => {
  provider.next({ delayMs: 2_500 });
  const { send, next } = client.session();
  await send(open(storeId));
  await next();
  await send(batch(1, texts(1)));
  expect(await next()).toMatchObject({ committed: { through_seq: 1 } });
  await send(batch(2, texts(1, 1)));
  expect(await next()).toMatchObject({ committed: { through_seq: 2 } });
  await send({ finish: { rows: 2 } });
  expect(await next()).toMatchObject({ summary: { rows_written: 2 } });
});

test("a store that another model embedded refuses rows without a vector, and takes those with one", async () => {
  await server.database.pool.query(
    "update vector_stores set embedding_model = 'another', dimensions = $2 where id = $1",
    [storeId, DIMENSIONS],
  );
  await expect(ingestAll(client, [open(storeId), batch(1, texts(1)), { finish: {} }])).rejects.toMatchObject({
    code: "failed_precondition",
    reason: "EMBEDDING_MODEL_MISMATCH",
  });
  expect(requests()).toEqual([]);
  const given = { ...(texts(1)[0] as Row), embedding: [1, 2, 3, 4] };
  expect(await ingestAll(client, [open(storeId), batch(1, [given]), { finish: {} }])).toMatchObject({
    rows_written: 1,
  });
});

const other = { id: "other", content: "a vector of another length", embedding: [1, 2] };
const mixtures: [string, Row[][]][] = [
  ["in one batch", [[other, ...texts(1)]]],
  ["in one batch, the other way round", [[...texts(1), other]]],
  ["in two batches", [[other], texts(1)]],
  ["in two batches, the other way round", [texts(1), [other]]],
];
test.each(
  mixtures.flatMap(([name, rows]) =>
    ["ATOMICITY_BATCH", "ATOMICITY_STREAM"].map((atomicity) => ({ name, rows, atomicity })),
  ),
)("a new store never gets vectors of two lengths: $name, $atomicity", async ({ rows, atomicity }) => {
  const messages = rows.map((part, index) => batch(index + 1, part));
  const outcome = await ingestAll(client, [
    open(storeId, { atomicity }),
    ...messages,
    { finish: { rows: 2 } },
  ]).catch((error: unknown) => error);
  // Whether it is a refused row or the end of the stream depends on what was known when the row was read.
  if (!(outcome instanceof Error))
    expect(outcome).toMatchObject({ errors: [{ code: "DIMENSION_MISMATCH" }] });
  else expect(outcome).toMatchObject({ code: "invalid_argument", reason: "DIMENSION_MISMATCH" });
  const lengths = new Set([...(await readVectors()).values()].map((vector) => vector.length));
  expect(lengths.size).toBeLessThanOrEqual(1);
  await expectExactCounts(server, storeId);
});

test("a store of another length refuses the service's vectors", async () => {
  await ingestAll(client, [open(storeId), batch(1, [other]), { finish: {} }]);
  await expect(ingestAll(client, [open(storeId), batch(1, texts(1)), { finish: {} }])).rejects.toMatchObject({
    code: "invalid_argument",
    reason: "DIMENSION_MISMATCH",
    param: "content",
  });
  expect(await readIds(server, storeId)).toEqual(["other"]);
});
