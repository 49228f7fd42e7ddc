import { once } from "node:events";
import { request, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { parseEnv } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readConfig } from "../../src/config.ts";
import { openTestDatabase, type TestDatabase } from "../support/databases/database.ts";
import { embedderAt } from "../support/servers/embedder.ts";
import { startEmbeddingServer, type EmbeddingServer } from "../support/servers/embedding-server.ts";
import type { Json } from "../support/clients/json.ts";
import { startServer, type TestServer } from "../support/servers/server.ts";

/** A server as an installation of litellm-pgvector had it: keys, an embeddings endpoint, perhaps other columns. */
interface Installation {
  database: TestDatabase;
  provider: EmbeddingServer;
  server: TestServer;
  close(): Promise<void>;
}

async function install(fields?: Record<string, string>): Promise<Installation> {
  const provider = await startEmbeddingServer({ dimensions: 3 });
  const database = await openTestDatabase(fields && { fields });
  const server = await startServer({
    // The same search is sent twice, and both count its tokens.
    search: { queryCacheBytes: 0 },
    database,
    embedder: embedderAt(provider.url),
    apiKeys: ["your-api-key", "sk-1234"],
  });
  const close = async () => {
    await server[Symbol.asyncDispose]();
    await provider.stop();
    await database.close();
  };
  return { database, provider, server, close };
}

interface Recorded {
  key?: string;
  body?: string;
  agent?: "curl" | "python";
}

/** Sends a request with the headers of curl, or of Python's requests, in their order. */
async function send(
  { server }: Installation,
  method: string,
  path: string,
  { key = "your-api-key", body, agent = "curl" }: Recorded = {},
) {
  const lead =
    agent === "curl"
      ? { "user-agent": "curl/8.14.1", accept: "*/*" }
      : { "user-agent": "python-requests/2.32.3", "accept-encoding": "gzip, deflate", accept: "*/*" };
  const headers = {
    ...lead,
    ...(key !== "" && { authorization: `Bearer ${key}` }),
    ...(body !== undefined && {
      "content-type": "application/json",
      "content-length": Buffer.byteLength(body),
    }),
  };
  const sent = request(server.url + path, { method, headers, agent: false });
  sent.end(body);
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  return { status: response.statusCode, json: JSON.parse(await text(response)) as Json };
}

async function post(to: Installation, path: string, body: object) {
  return send(to, "POST", path, { body: JSON.stringify(body) });
}

// What the README shows, to the byte, but for the "..." in its vectors, which is no JSON.
const README = {
  createStore: `{
    "name": "Support FAQ"
  }`,
  createEmbedding: `{
    "content": "Our return policy allows returns within 30 days of purchase.",
    "embedding": [0.1, 0.2, 0.3],
    "metadata": {
      "category": "returns",
      "source": "faq",
      "id": "return_policy_1"
    }
  }`,
  createBatch: `{
    "embeddings": [
      {
        "content": "Our return policy allows returns within 30 days of purchase.",
        "embedding": [0.1, 0.2, 0.3],
        "metadata": {"category": "returns"}
      },
      {
        "content": "Shipping is free for orders over $50.",
        "embedding": [0.4, 0.5, 0.6],
        "metadata": {"category": "shipping"}
      }
    ]
  }`,
  search: `{
    "query": "What is the return policy?",
    "limit": 20,
    "filters": {"category": "support"}
  }`,
  searchExample: `{
    "query": "How do I return an item?",
    "limit": 5,
    "return_metadata": true
  }`,
  createMigrated: `{
    "name": "Migrated Data",
    "metadata": {"source": "legacy_system"}
  }`,
};

const seconds = expect.toSatisfy(
  (value) => Number.isInteger(value) && Math.abs(value - Date.now() / 1000) < 60,
);

const RENAMED = {
  id: "chunk_id",
  content: "body",
  metadata: "Attributes",
  embedding: "vec",
  vectorStoreId: "store",
  createdAt: "order",
};

describe.each([
  ["its own columns", undefined],
  ["all six columns renamed by DB_FIELDS__*", RENAMED],
])("the README's requests, with %s", (_title, fields) => {
  let own: Installation;

  beforeAll(async () => {
    own = await install(fields);
    for (const id of ["vs_abc123", "vs_support_faq"]) await post(own, "/v1/vector_stores", { id, name: id });
  });

  afterAll(async () => {
    await own.close();
  });

  test("the embeddings table has the columns it should have", async () => {
    const { rows } = await own.database.pool
      .query("select * from embeddings limit 0")
      .then(({ fields: columns }) => ({
        rows: columns.map(({ name }) => name),
      }));
    const expected = fields ?? {
      a: "id",
      b: "content",
      c: "metadata",
      d: "embedding",
      e: "vector_store_id",
      f: "created_at",
    };
    const added = ["file_id", "chunk_index", "chunk_place"];
    expect(rows.toSorted()).toEqual([...Object.values(expected), ...added].toSorted());
  });

  test("create a store", async () => {
    const reply = await send(own, "POST", "/v1/vector_stores", { body: README.createStore });
    expect(reply).toMatchObject({
      status: 200,
      json: {
        id: expect.stringMatching(/^vs_/),
        object: "vector_store",
        created_at: seconds,
        name: "Support FAQ",
        usage_bytes: 0,
        file_counts: { in_progress: 0, completed: 0, failed: 0, cancelled: 0, total: 0 },
        status: "completed",
        expires_after: null,
        expires_at: null,
        metadata: {},
      },
    });
    expect(reply.json).toHaveProperty("last_active_at");
  });

  test("list the stores, and on from one of them", async () => {
    const all = await send(own, "GET", "/v1/vector_stores");
    expect(all).toMatchObject({
      status: 200,
      json: { object: "list", last_id: "vs_abc123", has_more: false },
    });
    const ids = (all.json["data"] as Json[]).map(({ id }) => id);
    expect(all.json["first_id"]).toBe(ids[0]);
    expect(ids.slice(-2)).toEqual(["vs_support_faq", "vs_abc123"]);
    const rest = await send(own, "GET", "/v1/vector_stores?limit=10&after=vs_abc123");
    expect(rest.json).toEqual({ object: "list", data: [], first_id: null, last_id: null, has_more: false });
  });

  test("add an embedding", async () => {
    const reply = await send(own, "POST", "/v1/vector_stores/vs_abc123/embeddings", {
      body: README.createEmbedding,
    });
    expect(reply).toMatchObject({
      status: 200,
      json: {
        id: expect.any(String),
        object: "embedding",
        vector_store_id: "vs_abc123",
        content: "Our return policy allows returns within 30 days of purchase.",
        metadata: { category: "returns", source: "faq", id: "return_policy_1" },
        created_at: seconds,
      },
    });
  });

  test("add a batch", async () => {
    const reply = await send(own, "POST", "/v1/vector_stores/vs_abc123/embeddings/batch", {
      body: README.createBatch,
    });
    const [returns, shipping] = (JSON.parse(README.createBatch) as { embeddings: Json[] }).embeddings;
    const common = {
      id: expect.any(String),
      object: "embedding",
      vector_store_id: "vs_abc123",
      created_at: seconds,
    };
    expect(reply).toMatchObject({
      status: 200,
      json: {
        object: "embedding.batch",
        data: [
          { ...common, content: returns?.["content"], metadata: returns?.["metadata"] },
          { ...common, content: shipping?.["content"], metadata: shipping?.["metadata"] },
        ],
        created: seconds,
      },
    });
    const store = await send(own, "GET", "/v1/vector_stores/vs_abc123");
    expect(store.json).toMatchObject({ file_counts: { completed: 3, total: 3 }, usage_bytes: 60 + 60 + 37 });
  });

  test("search, with a flat filter", async () => {
    const none = await send(own, "POST", "/v1/vector_stores/vs_abc123/search", { body: README.search });
    expect(none).toMatchObject({
      status: 200,
      json: { object: "vector_store.search_results.page", data: [], has_more: false, next_page: null },
    });
    const body = README.search.replace("support", "shipping");
    const { json } = await send(own, "POST", "/v1/vector_stores/vs_abc123/search", { body });
    expect(json["data"]).toMatchObject([
      {
        file_id: expect.any(String),
        filename: "document.txt",
        score: expect.toSatisfy((score: number) => score >= 0 && score <= 1),
        attributes: { category: "shipping" },
        content: [{ type: "text", text: "Shipping is free for orders over $50." }],
      },
    ]);
  });

  test("the example search, with another key", async () => {
    const embeddings = [
      { content: "How to return an item", metadata: { category: "support" } },
      { content: "Opening hours" },
    ];
    await post(own, "/v1/vector_stores/vs_support_faq/embeddings/batch", { embeddings });
    const recorded = { key: "sk-1234", body: README.searchExample };
    const { status, json } = await send(own, "POST", "/v1/vector_stores/vs_support_faq/search", recorded);
    expect(status).toBe(200);
    expect((json["data"] as Json[]).map((item) => item["attributes"])).toEqual([{ category: "support" }, {}]);
  });

  test("the example search, answered as the README documents it", async () => {
    const body = README.searchExample.replace("{", '{"response_format": "flat",');
    const { json } = await send(own, "POST", "/v1/vector_stores/vs_support_faq/search", { body });
    const item = { id: expect.any(String), score: expect.any(Number) };
    expect(json).toEqual({
      object: "vector_store.search",
      data: [
        { ...item, content: "How to return an item", metadata: { category: "support" } },
        { ...item, content: "Opening hours", metadata: {} },
      ],
      usage: { total_tokens: 6 },
    });
  });

  test("health, without a key", async () => {
    const reply = await send(own, "GET", "/health", { key: "" });
    expect(reply).toEqual({ status: 200, json: { status: "healthy", timestamp: seconds } });
  });

  test("migrate: create a store and send a batch of 200 vectors of 1,536 dimensions", async () => {
    const created = await send(own, "POST", "/v1/vector_stores", { body: README.createMigrated });
    expect(created.json).toMatchObject({ name: "Migrated Data", metadata: { source: "legacy_system" } });
    const id = String(created.json["id"]);
    const rows = Array.from({ length: 200 }, (_, row) => ({
      content: `Zeile ${row}`,
      embedding: Array.from({ length: 1536 }, (_, axis) => Math.sin(row * 1536 + axis)),
      metadata: row % 2 === 0 ? { source_id: `doc_${row}`, category: "support" } : {},
    }));
    // As Python's json writes it: a space after every comma and colon.
    const body = `{"embeddings": [${rows
      .map(
        (row) =>
          `{"content": "${row.content}", "embedding": [${row.embedding.join(", ")}], "metadata": ${JSON.stringify(row.metadata)}}`,
      )
      .join(", ")}]}`;
    const path = `/v1/vector_stores/${id}/embeddings/batch`;
    const { status, json } = await send(own, "POST", path, { body, agent: "python" });
    expect(status).toBe(200);
    expect((json["data"] as Json[]).map((item) => item["content"])).toEqual(rows.map((row) => row.content));
    const store = await send(own, "GET", `/v1/vector_stores/${id}`);
    expect(store.json).toMatchObject({ file_counts: { total: 200 }, dimensions: 1536 });
    const found = await post(own, `/v1/vector_stores/${id}/search`, {
      embedding: rows[77]?.embedding,
      limit: 1,
    });
    expect(found.json["data"]).toMatchObject([
      { score: expect.closeTo(1, 6), content: [{ text: "Zeile 77" }] },
    ]);
  });
});

test("the names its .env has are read", () => {
  const environment = parseEnv(`
DATABASE_URL="postgresql://username:password@localhost:5432/vectordb?schema=public"
OPENAI_API_KEY="your-api-key-here"
HOST="0.0.0.0"
PORT=8000
EMBEDDING__MODEL="text-embedding-ada-002"
EMBEDDING__BASE_URL="http://localhost:4000"
EMBEDDING__API_KEY="sk-1234"
EMBEDDING__DIMENSIONS=1536
DB_FIELDS__ID_FIELD="id"
DB_FIELDS__CONTENT_FIELD="content"
DB_FIELDS__METADATA_FIELD="metadata"
DB_FIELDS__EMBEDDING_FIELD="embedding"
DB_FIELDS__VECTOR_STORE_ID_FIELD="vector_store_id"
DB_FIELDS__CREATED_AT_FIELD="created_at"
`);
  expect(readConfig(environment)).toMatchObject({
    listen: { host: "0.0.0.0", port: 8000 },
    apiKeys: ["your-api-key-here"],
    database: {
      url: "postgresql://username:password@localhost:5432/vectordb?schema=public",
      names: {
        fields: {
          id: "id",
          content: "content",
          metadata: "metadata",
          embedding: "embedding",
          vectorStoreId: "vector_store_id",
          createdAt: "created_at",
        },
      },
    },
    embedding: {
      model: "text-embedding-ada-002",
      baseUrl: "http://localhost:4000",
      apiKey: "sk-1234",
      dimensions: 1536,
    },
  });
  const inLowerCase = Object.fromEntries(
    Object.entries(environment).map(([name, value]) => [name.toLowerCase(), value]),
  );
  expect(readConfig(inLowerCase)).toEqual(readConfig(environment));
});
