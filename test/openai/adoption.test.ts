import { OpenAI } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Database } from "../../src/postgres/database.ts";
import { migrate } from "../../src/postgres/migrations/migrate.ts";
import { openDatabase } from "../../src/postgres/connection/pool.ts";
import { openEmptyDatabase, type TestDatabase } from "../support/databases/database.ts";
import { embedderAt } from "../support/servers/embedder.ts";
import { startEmbeddingServer, vectorOf, type EmbeddingServer } from "../support/servers/embedding-server.ts";
import { jsonClient, type Json, type Send } from "../support/clients/json.ts";
import { createLitellmTables } from "../support/databases/litellm-tables.ts";
import { startServer, type TestServer } from "../support/servers/server.ts";
import { TEST_LIMITS } from "../support/databases/template.ts";

const FAQ = "5d0f6f0e-3b1c-4e0f-9d53-0c3ad0a1f0a1";
const NOTES = "0a6b7c8d-0000-4000-8000-000000000002";
const EMPTY = "f1e2d3c4-0000-4000-8000-000000000003";

/** Texts of the FAQ store, the id of each at its end. */
const QUESTIONS = [
  { content: "How do I return an item?", metadata: { category: "returns", page: 1, public: true } },
  {
    content: "Which items may I return, and until when?",
    metadata: { category: "returns", page: 2, public: false },
  },
  { content: "Is shipping free?", metadata: { category: "shipping", page: 1, filename: "shipping.md" } },
  { content: "Wann öffnet das Geschäft?", metadata: null },
].map((question, index) => ({ ...question, id: `e0000000-0000-4000-8000-00000000000${index}` }));

/** The tables as Prisma makes them of litellm-pgvector's schema.prisma, with rows as its main.py inserts them. */
async function createOldDatabase(database: Database): Promise<void> {
  const { pool } = database;
  await createLitellmTables(database);
  await pool.query(`
    insert into vector_stores (id, name, file_counts, usage_bytes, created_at, expires_after, last_active_at, metadata) values
      ('${FAQ}', 'FAQ', '{"in_progress": 0, "completed": 7, "failed": 0, "cancelled": 0, "total": 7}', 3,
        '2025-07-01 10:00:00.123', '{"anchor": "last_active_at", "days": 7}', '2025-07-02 10:00', '{"team": "a", "size": 5}'),
      ('${NOTES}', 'Notes', null, null, '2025-07-01 10:00:00.123', null, null, null),
      ('${EMPTY}', 'Empty', null, 0, '2025-07-03 10:00', null, null, '{}')`);
  const rows = [
    ...QUESTIONS.map((question) => ({ ...question, store: FAQ })),
    { id: "clq1x2y3z0000abcd", store: NOTES, content: "A note", metadata: {} },
  ];
  for (const { id, store, content, metadata } of rows) {
    await pool.query("insert into embeddings values ($1, $2, $3, $4, $5, '2025-07-01 12:00')", [
      id,
      store,
      content,
      JSON.stringify(Array.from(vectorOf(content, 1536))),
      metadata,
    ]);
  }
}

const bytes = (texts: { content: string }[]) =>
  texts.reduce((sum, { content }) => sum + Buffer.byteLength(content), 0);

const fileCounts = (total: number) => ({ in_progress: 0, completed: total, failed: 0, cancelled: 0, total });

let provider: EmbeddingServer;

beforeAll(async () => {
  provider = await startEmbeddingServer({ dimensions: 1536 });
});

afterAll(async () => {
  await provider.stop();
});

describe("a service on a database of litellm-pgvector", () => {
  let database: TestDatabase;
  let server: TestServer;
  let client: OpenAI;
  let send: Send;

  beforeAll(async () => {
    database = await openEmptyDatabase();
    await createOldDatabase(database);
    await migrate(database);
    server = await startServer({ database, embedder: embedderAt(provider.url) });
    client = new OpenAI({ apiKey: "any", baseURL: `${server.url}/v1`, maxRetries: 0 });
    send = jsonClient(server.url);
  });

  afterAll(async () => {
    await server[Symbol.asyncDispose]();
    await database.close();
  });

  const add = async (store: string, embeddings: object[]) =>
    send("POST", `/v1/vector_stores/${store}/embeddings/batch`, { embeddings });

  test("lists the stores by their age and their id, in both orders, page by page", async () => {
    for (const limit of [1, 2, 20]) {
      const ids: string[] = [];
      for await (const { id } of client.vectorStores.list({ limit, order: "asc" })) ids.push(id);
      expect(ids).toEqual([NOTES, FAQ, EMPTY]);
      const newest: string[] = [];
      for await (const { id } of client.vectorStores.list({ limit })) newest.push(id);
      expect(newest).toEqual([EMPTY, FAQ, NOTES]);
    }
  });

  test("shows a store with its own data and the right counts", async () => {
    expect(await client.vectorStores.retrieve(FAQ)).toEqual({
      id: FAQ,
      object: "vector_store",
      created_at: Date.parse("2025-07-01T10:00:00Z") / 1000,
      name: "FAQ",
      description: null,
      usage_bytes: bytes(QUESTIONS),
      file_counts: fileCounts(4),
      status: "completed",
      expires_after: { anchor: "last_active_at", days: 7 },
      expires_at: null,
      last_active_at: Date.parse("2025-07-02T10:00:00Z") / 1000,
      // OpenAI's metadata are texts.
      metadata: { team: "a", size: "5" },
      dimensions: 1536,
      embedding_model: null,
      embedding_count: 4,
      precision: null,
      language: "english",
      index_state: "none",
      restrict_readers: false,
    });
    expect(await client.vectorStores.retrieve(EMPTY)).toMatchObject({
      file_counts: fileCounts(0),
      dimensions: null,
    });
  });

  test("finds the old texts in the order of their similarity", async () => {
    const query = "return an item";
    const asked = vectorOf(query, 1536);
    const expected = QUESTIONS.map(({ id, content }) => {
      const cosine = vectorOf(content, 1536).reduce(
        (sum, number, axis) => sum + number * (asked[axis] ?? 0),
        0,
      );
      return { file_id: id, content: [{ type: "text", text: content }], score: (1 + cosine) / 2 };
    }).toSorted((a, b) => b.score - a.score);
    const { data } = await client.vectorStores.search(FAQ, { query });
    expect(data).toMatchObject(expected.map((hit) => ({ ...hit, score: expect.closeTo(hit.score, 5) })));
    expect(data[0]?.file_id).toBe(QUESTIONS[0]?.id);
  });

  test("filters by the old metadata, and gives {} for none", async () => {
    const find = async (filters: object) => {
      const { json } = await send("POST", `/vector_stores/${FAQ}/search`, { query: "x", filters });
      return (json["data"] as Json[])
        .map(({ file_id: id }) => QUESTIONS.findIndex((question) => question.id === id))
        .toSorted((a, b) => a - b);
    };
    expect(await find({ category: "returns" })).toEqual([0, 1]);
    expect(await find({ public: true })).toEqual([0]);
    expect(await find({ type: "gt", key: "page", value: 1 })).toEqual([1]);
    expect(await find({ type: "ne", key: "category", value: "returns" })).toEqual([2, 3]);
    const { data } = await client.vectorStores.search(FAQ, {
      query: QUESTIONS[3]?.content ?? "",
      max_num_results: 1,
    });
    expect(data).toMatchObject([{ attributes: {}, filename: "document.txt" }]);
  });

  test("reads an old embedding with its vector", async () => {
    const { json } = await send("GET", `/v1/vector_stores/${NOTES}/embeddings/clq1x2y3z0000abcd`);
    expect(json).toMatchObject({
      content: "A note",
      metadata: {},
      created_at: Date.parse("2025-07-01T12:00:00Z") / 1000,
    });
    expect(json["embedding"]).toEqual(Array.from(vectorOf("A note", 1536)));
  });

  test("adds to an old store, by text and by vector, finds both, and counts them", async () => {
    const texts = [
      { content: "Gift cards — für alle" },
      { content: "ready made", embedding: Array.from(vectorOf("gift cards", 1536)) },
    ];
    expect((await add(FAQ, texts)).status).toBe(200);
    const { data } = await client.vectorStores.search(FAQ, { query: "gift cards", max_num_results: 2 });
    expect(data.map(({ content }) => content[0]?.text)).toEqual(["ready made", "Gift cards — für alle"]);
    const store = await client.vectorStores.retrieve(FAQ);
    expect(store).toMatchObject({
      usage_bytes: bytes([...QUESTIONS, ...texts]),
      file_counts: fileCounts(6),
      embedding_model: "test-embedding",
    });
    expect(store.expires_at).toBe(Number(store.last_active_at) + 7 * 86_400);
    expect(await add(FAQ, [{ content: "short", embedding: [1, 2, 3] }])).toMatchObject({
      status: 400,
      json: { error: { code: "dimension_mismatch" } },
    });
  });

  test("fixes the dimensions of an old store that was empty by its first vector", async () => {
    expect((await add(EMPTY, [{ content: "short", embedding: [1, 2, 3] }])).status).toBe(200);
    expect(await client.vectorStores.retrieve(EMPTY)).toMatchObject({
      dimensions: 3,
      file_counts: fileCounts(1),
    });
  });

  test("deletes an old embedding and counts it out, then the store with all that is in it", async () => {
    const before = await client.vectorStores.retrieve(FAQ);
    const [question] = QUESTIONS;
    await client.delete(`/vector_stores/${FAQ}/embeddings/${question?.id}`);
    expect(await client.vectorStores.retrieve(FAQ)).toMatchObject({
      usage_bytes: before.usage_bytes - Buffer.byteLength(question?.content ?? ""),
      file_counts: fileCounts(before.file_counts.total - 1),
    });
    await client.vectorStores.delete(FAQ);
    await expect(client.vectorStores.retrieve(FAQ)).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    const { rows } = await database.pool.query(
      "select vector_store_id as store, count(*)::int from embeddings group by 1 order by 1",
    );
    expect(rows).toEqual([
      { store: NOTES, count: 1 },
      { store: EMPTY, count: 1 },
    ]);
  });

  test("starts again and changes nothing", async () => {
    const read = async () => {
      const stores = await database.pool.query("select * from vector_stores order by id");
      const embeddings = await database.pool.query("select *, xmin::text from embeddings order by id");
      return [stores.rows, embeddings.rows];
    };
    const before = await read();
    expect(await migrate(database)).toEqual({ applied: 0 });
    await using again = await startServer({ database, embedder: embedderAt(provider.url) });
    expect((await jsonClient(again.url)("GET", `/v1/vector_stores/${NOTES}`)).status).toBe(200);
    expect(await read()).toEqual(before);
  });
});

test("two services that start at once on a database of litellm-pgvector both serve it, and nothing is lost", async () => {
  await using database = await openEmptyDatabase();
  await createOldDatabase(database);
  const { url, tables } = database;
  // The embedded database is for one process, so that there the two share a connection.
  const other = url === undefined ? database : await openDatabase({ url, tables, ...TEST_LIMITS });
  const applied = await Promise.all([migrate(database), migrate(other)]);
  expect(applied.filter((outcome) => outcome.applied > 0)).toHaveLength(1);
  for (const own of [database, other]) {
    await using server = await startServer({ database: own, embedder: embedderAt(provider.url) });
    const { json } = await jsonClient(server.url)("POST", `/v1/vector_stores/${FAQ}/search`, {
      query: "return",
      limit: 100,
    });
    expect(json["data"]).toHaveLength(QUESTIONS.length);
  }
  if (other !== database) await other.close();
});
