import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { promoteStore } from "../../../../src/indexes/worker.ts";
import { type Json, type Reply } from "../../../support/clients/client.ts";
import { protocols } from "../../../support/clients/clients.ts";
import { grpcByGrpcJs } from "../../../support/clients/grpc-client.ts";
import { TEST_INDEXES } from "../../../support/stores/index-store.ts";
import { restOverHttp1 } from "../../../support/clients/rest-client.ts";
import { startServer } from "../../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

const rows = [
  { id: "a", content: "grey whales", embedding: [1, 0.25], metadata: { kind: "whale", filename: "a.txt" } },
  { id: "b", content: "blue whales", embedding: [0.5, -2], metadata: { kind: "whale" } },
];

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let storeId: string;
  let ownId: string;
  async function createStore(embeddings: Json[]): Promise<string> {
    const { id } = await call("VectorStoreService/CreateVectorStore");
    await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: id, embeddings });
    return id;
  }
  beforeAll(async () => {
    [storeId, ownId] = await Promise.all([createStore(rows), createStore(rows)]);
    await promoteStore(server.database, ownId, TEST_INDEXES);
  });

  const search = (request: Json = {}): Promise<Reply> =>
    call("SearchService/Search", { vector_store_id: storeId, embedding: [1, 0], ...request });
  const byWords = {
    embedding: [],
    query: "grey whales",
    ranking_options: { hybrid_search: { embedding_weight: 0, text_weight: 1 } },
  };
  const [first] = rows as [(typeof rows)[0]];
  const content = [{ type: "text", text: first.content }];

  test.each<[string[], Json]>([
    [[], { content, attributes: first.metadata, embedding: null }],
    [["content"], { content, attributes: null, embedding: null }],
    [["metadata"], { content: [], attributes: first.metadata, embedding: null }],
    [["embedding"], { content: [], attributes: null, embedding: first.embedding }],
    [
      ["embedding", "content", "metadata"],
      { content, attributes: first.metadata, embedding: first.embedding },
    ],
  ])("with %j a result has these", async (include, expected) => {
    for (const request of [{}, { vector_store_id: ownId }, byWords, { group_by: "file" }, { limit: 100 }]) {
      const { data } = await search({ ...request, include });
      expect(data[0]).toMatchObject({ id: "a", file_id: "a", filename: "a.txt", ...expected });
      expect(data).toHaveLength(2);
    }
  });

  test("each search of a batch has its own, and a search of several stores too", async () => {
    const searches = [["embedding"], ["content"]].map((include) => ({ embedding: [1, 0], include }));
    const { data } = await call("SearchService/BatchSearch", { vector_store_id: storeId, searches });
    expect(data[0].data[0]).toMatchObject({ content: [], embedding: first.embedding });
    expect(data[1].data[0]).toMatchObject({ content, embedding: null });
    const stores = { vector_store_ids: [storeId, ownId], embedding: [1, 0], include: ["embedding"] };
    const several = await call("SearchService/SearchVectorStores", stores);
    for (const hit of several.data.slice(0, 2)) expect(hit).toMatchObject({ embedding: first.embedding });
  });

  test("vectors that diversity reads are not returned unless asked for", async () => {
    expect((await search({ diversity: 0.5 })).data[0].embedding).toBeNull();
  });

  test("refuses a field that there is none of", async () => {
    const refused = search({ include: ["content", "unspecified"] });
    await expect(refused).rejects.toMatchObject({ code: "invalid_argument", param: "include[1]" });
  });
});

describe.each([restOverHttp1, grpcByGrpcJs])("over $name, large", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  test("a page ends before its vectors exceed 3 MiB, and texts that are left out do not count", async () => {
    const embeddings = [...Array(60).keys()].map((row) => ({
      id: `r${row}`,
      content: "x".repeat(60_000),
      embedding: Array.from({ length: 16_000 }, (_, index) => (index === row ? 2 : 1)),
    }));
    const { id } = await call("VectorStoreService/CreateVectorStore");
    for (let row = 0; row < 60; row += 15) {
      const part = { vector_store_id: id, embeddings: embeddings.slice(row, row + 15) };
      await call("EmbeddingService/BatchCreateEmbeddings", part);
    }
    const all = { vector_store_id: id, embedding: embeddings[0]?.embedding, limit: 60 };
    const pages: number[] = [];
    const ids: string[] = [];
    for (let page: string | undefined; ;) {
      const reply = await call("SearchService/Search", {
        ...all,
        include: ["embedding"],
        ...(page !== undefined && { page }),
      });
      pages.push(reply.data.length);
      ids.push(...reply.data.map((hit: Reply) => hit.id));
      if (!reply.has_more) break;
      page = reply.next_page;
    }
    expect(Math.max(...pages)).toBe(50);
    expect(new Set(ids).size).toBe(60);
    expect(await call("SearchService/Search", { ...all, include: ["metadata"] })).toMatchObject({
      has_more: false,
    });
    expect((await call("SearchService/Search", all)).data.length).toBeLessThan(60);
  });
});
