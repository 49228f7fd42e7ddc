import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Json } from "../../support/clients/client.ts";
import { protocols } from "../../support/clients/clients.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

const content = async () => [
  (await pool.query("select * from vector_stores")).rows,
  (await pool.query("select * from embeddings")).rows,
];

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let before: unknown;
  beforeEach(async () => {
    await pool.query("truncate vector_stores, embeddings");
    await call("VectorStoreService/CreateVectorStore", { id: "s" });
    await call("EmbeddingService/CreateEmbedding", {
      vector_store_id: "s",
      id: "e",
      content: "a text",
      embedding: [1, 2],
    });
    before = await content();
  });
  // What is refused leaves no trace.
  afterEach(async () => expect(await content()).toEqual(before));

  const embedding = [1, 2];
  const createStore = "VectorStoreService/CreateVectorStore";
  const updateStore = "VectorStoreService/UpdateVectorStore";
  const create = "EmbeddingService/CreateEmbedding";
  const batch = "EmbeddingService/BatchCreateEmbeddings";
  const purge = "EmbeddingService/PurgeEmbeddings";
  const search = "SearchService/Search";

  /** Calls an RPC on the store; the one that creates stores knows no other. */
  const send = (rpc: string, request: Json) =>
    call(rpc, rpc === createStore ? request : { vector_store_id: "s", ...request });

  /** Every place that takes a text, with the field the error must name. */
  const places = (text: string): [string, Json, string][] => [
    [createStore, { name: text }, "name"],
    [createStore, { description: text }, "description"],
    [createStore, { metadata: { [text]: "v" } }, "metadata"],
    [createStore, { metadata: { k: text } }, "metadata.k"],
    [createStore, { id: text }, "id"],
    [updateStore, { name: text }, "name"],
    [updateStore, { metadata: { k: text } }, "metadata.k"],
    [create, { content: text, embedding }, "content"],
    [create, { content: "a", embedding, id: text }, "id"],
    [create, { content: "a", embedding, metadata: { k: text } }, "metadata"],
    [create, { content: "a", embedding, metadata: { [text]: 1 } }, "metadata"],
    [create, { content: "a", embedding, metadata: { k: [{ k: text }] } }, "metadata"],
    [
      batch,
      {
        embeddings: [
          { content: "a", embedding },
          { content: text, embedding },
        ],
      },
      "embeddings[1].content",
    ],
    [batch, { embeddings: [{ content: "a", embedding, metadata: { k: text } }] }, "embeddings[0].metadata"],
    [search, { query: text }, "query"],
    [search, { query: ["a", text] }, "query[1]"],
    [search, { query: "a", filters: { type: "eq", key: text, value: 1 } }, "filters.key"],
    [search, { query: "a", filters: { type: "eq", key: "k", value: text } }, "filters.value"],
    [search, { query: "a", filters: { type: "in", key: "k", value: ["a", text] } }, "filters.value[1]"],
    [search, { query: "a", ranking_options: { ranker: text } }, "ranking_options.ranker"],
    [purge, { filters: { type: "ne", key: text, value: 1 } }, "filters.key"],
    [purge, { filters: { type: "ne", key: "k", value: text } }, "filters.value"],
  ];

  test.each(places("a\0b"))("NUL is refused by %s %j", async (rpc, request, param) => {
    await expect(send(rpc, request)).rejects.toMatchObject({ code: "invalid_argument", param });
  });

  // The clients of Connect have no way to send half a surrogate pair.
  if (protocol.name.startsWith("REST")) {
    test.each(places("a\ud83d"))("half a surrogate pair is refused by %s %j", async (rpc, request, param) => {
      await expect(send(rpc, request)).rejects.toMatchObject({ code: "invalid_argument", param });
    });
  }
  if (protocol.name === "gRPC by grpc-js") {
    test.each(places("a\ud83d"))(
      "half a surrogate pair, which is not UTF-8, is refused by %s %j",
      async (rpc, request) => {
        await expect(send(rpc, request)).rejects.toMatchObject({
          code: "invalid_argument",
          message: expect.stringMatching(/^parse binary/),
        });
      },
    );
  }

  test.each(["", ".", "..", "a/b", "a b", "🐘", "é", "a\n", "..%2f", "a?b", "a#b", "x".repeat(129)])(
    "the id %j is refused",
    async (id) => {
      const refused = {
        code: "invalid_argument",
        param: "id",
        message: expect.stringContaining("A-Z a-z 0-9"),
      };
      await expect(send(createStore, { id })).rejects.toMatchObject(refused);
      await expect(send(create, { id, content: "a", embedding })).rejects.toMatchObject(refused);
      await expect(send(batch, { embeddings: [{ id, content: "a", embedding }] })).rejects.toMatchObject({
        code: "invalid_argument",
        param: "embeddings[0].id",
      });
    },
  );

  test.each(["a/b", "/", "🐘", "a b", "%", "%2F", "?", "#", "a\0b", "é", "x".repeat(500)])(
    "there is nothing with the id %j",
    async (id) => {
      const noStore = {
        code: "not_found",
        reason: "NOT_FOUND",
        message: `No vector store found with id '${id}'.`,
      };
      for (const rpc of [
        "VectorStoreService/GetVectorStore",
        "VectorStoreService/DeleteVectorStore",
        updateStore,
      ]) {
        await expect(call(rpc, { vector_store_id: id })).rejects.toMatchObject(noStore);
      }
      await expect(call(create, { vector_store_id: id, content: "a", embedding })).rejects.toMatchObject(
        noStore,
      );
      await expect(call(search, { vector_store_id: id, query: "a" })).rejects.toMatchObject(noStore);
      const noEmbedding = {
        code: "not_found",
        message: `No embedding found with id '${id}' in vector store 's'.`,
      };
      await expect(send("EmbeddingService/GetEmbedding", { embedding_id: id })).rejects.toMatchObject(
        noEmbedding,
      );
      await expect(send("EmbeddingService/DeleteEmbedding", { embedding_id: id })).rejects.toMatchObject(
        noEmbedding,
      );
    },
  );

  test("an empty text is refused where one is needed", async () => {
    await expect(send(create, { content: "", embedding })).rejects.toMatchObject({
      code: "invalid_argument",
      param: "content",
    });
    await expect(send(createStore, { metadata: { "": "v" } })).rejects.toMatchObject({
      code: "invalid_argument",
      param: "metadata",
    });
    const filters = { type: "eq", key: "", value: "" };
    await expect(send(search, { query: "a", filters })).rejects.toMatchObject({
      code: "invalid_argument",
      param: "filters.key",
    });
    await expect(send("EmbeddingService/ListEmbeddings", { vector_store_id: "" })).rejects.toMatchObject({
      code: "not_found",
    });
  });
});
