import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Json, type Reply } from "../../../support/clients/client.ts";
import { protocols } from "../../../support/clients/clients.ts";
import { embedderAt } from "../../../support/servers/embedder.ts";
import { startEmbeddingServer } from "../../../support/servers/embedding-server.ts";
import { startServer } from "../../../support/servers/server.ts";

const provider = await startEmbeddingServer({ dimensions: 2 });
const server = await startServer({ embedder: embedderAt(provider.url), search: { queryCacheBytes: 0 } });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await provider[Symbol.asyncDispose]();
});

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let storeId: string;
  beforeAll(async () => {
    storeId = (await call("VectorStoreService/CreateVectorStore")).id;
    await call("EmbeddingService/BatchCreateEmbeddings", {
      vector_store_id: storeId,
      embeddings: [
        { id: "a", content: "grey whales", embedding: [1, 0] },
        { id: "b", content: "blue whales sing", embedding: [1, 1] },
        { id: "c", content: "apple pie", embedding: [0, 1] },
      ],
    });
  });

  const search = (request: Json): Promise<Reply> =>
    call("SearchService/Search", { vector_store_id: storeId, ...request });
  const hybrid = (embedding: number, text: number, options: Json = {}): Json => ({
    ranking_options: { ...options, hybrid_search: { embedding_weight: embedding, text_weight: text } },
  });
  const scoresOf = ({ data }: Reply) =>
    Object.fromEntries(data.map(({ id, score }: { id: string; score: number }) => [id, score]));

  test("joins a search by vector with one by the words of a text", async () => {
    const reply = await search({ embedding: [0, 1], query: "whales that sing", ...hybrid(1, 3) });
    expect(reply).toMatchObject({
      search_query: ["whales that sing"],
      usage: { total_tokens: 0 },
      statistics: { method: "exact", complete: true },
    });
    // By vector c, b, a; by words b, a.
    expect(reply.data.map(({ id }: Reply) => id)).toEqual(["b", "a", "c"]);
    const expected = { b: 61 / 62 + 3, a: 61 / 63 + 3 * (61 / 62), c: 1 };
    for (const [id, score] of Object.entries(expected))
      expect(scoresOf(reply)[id]).toBeCloseTo(score / 4, 12);
  });

  test("embeds the text for its vector, and not where only its words count", async () => {
    const before = provider.requests.length;
    expect(await search({ query: "whales", ...hybrid(1, 1) })).toMatchObject({ usage: { total_tokens: 1 } });
    expect(provider.requests).toHaveLength(before + 1);
    const byWords = await search({ query: "whales", ...hybrid(0, 1) });
    expect(byWords).toMatchObject({
      usage: { total_tokens: 0 },
      statistics: { method: "keyword", complete: true },
    });
    expect(scoresOf(byWords)).toEqual({ a: 1, b: expect.closeTo(61 / 62, 12) });
    expect(provider.requests).toHaveLength(before + 1);
  });

  test("merges several texts by their best score, and heeds the threshold", async () => {
    const query = ["pie", "sing"];
    const merged = await search({ query, ...hybrid(0, 1) });
    expect(scoresOf(merged)).toEqual({ b: 1, c: 1 });
    expect(scoresOf(await search({ query: "whales", ...hybrid(0, 1, { score_threshold: 1 }) }))).toEqual({
      a: 1,
    });
  });

  test("compares every vector where asked to", async () => {
    const reply = await search({ embedding: [0, 1], exact: true, ef_search: 1_000 });
    expect(reply).toMatchObject({ statistics: { method: "exact", complete: true } });
    expect(reply.data.map(({ id }: Reply) => id)).toEqual(["c", "b", "a"]);
  });

  const weight = "ranking_options.hybrid_search";
  test.each<[string, Json, string]>([
    [
      "a missing weight",
      { query: "a", ranking_options: { hybrid_search: { text_weight: 1 } } },
      `${weight}.embedding_weight`,
    ],
    [
      "the other missing",
      { query: "a", ranking_options: { hybrid_search: { embedding_weight: 1 } } },
      `${weight}.text_weight`,
    ],
    ["a negative weight", { query: "a", ...hybrid(1, -0.1) }, `${weight}.text_weight`],
    ["a weight beyond 1,000,000", { query: "a", ...hybrid(1_000_001, 1) }, `${weight}.embedding_weight`],
    ["two weights of 0", { query: "a", ...hybrid(0, 0) }, `${weight}.embedding_weight`],
    ["words without a text", { embedding: [1, 0], ...hybrid(1, 1) }, "query"],
    ["a vector with two texts", { embedding: [1, 0], query: ["a", "b"], ...hybrid(1, 1) }, "query"],
  ])("refuses %s", async (_, request, param) => {
    await expect(search(request)).rejects.toMatchObject({ code: "invalid_argument", param });
  });

  const batch = (searches: Json[]): Promise<Reply> =>
    call("SearchService/BatchSearch", { vector_store_id: storeId, searches });

  test("runs several searches, each with results of its own, and embeds their texts at once", async () => {
    const before = provider.requests.length;
    const reply = await batch([
      { query: ["apple pie", "grey whales"] },
      { embedding: [1, 0], max_num_results: 1 },
      { query: "blue", ...hybrid(0, 1) },
      { query: "whales", filters: { type: "eq", key: "none", value: 1 } },
    ]);
    expect(provider.requests.slice(before).map(({ body }) => body.input)).toEqual([
      ["apple pie", "grey whales", "whales"],
    ]);
    expect(reply).toMatchObject({ object: "list", usage: { total_tokens: 5 } });
    expect(reply.data.map(({ data }: Reply) => data.map(({ id }: Reply) => id).toSorted())).toEqual([
      ["a", "b", "c"],
      ["a"],
      ["b"],
      [],
    ]);
    expect(reply.data[0]).toMatchObject({
      object: "vector_store.search_results.page",
      search_query: ["apple pie", "grey whales"],
      usage: null,
      statistics: { method: "exact", complete: true },
    });
    expect(reply.data[0].data).toEqual((await search({ query: ["apple pie", "grey whales"] })).data);
  });

  test("runs a hundred searches", async () => {
    const reply = await batch(Array.from({ length: 100 }, (_, index) => ({ embedding: [1, index] })));
    expect(reply.data).toHaveLength(100);
    expect(reply.data[0].data[0].id).toBe("a");
    expect(reply.data[99].data[0].id).toBe("c");
  });

  test.each<[string, Json[], string]>([
    ["no searches", [], "searches"],
    ["101 searches", Array(101).fill({ query: "a" }), "searches"],
    ["a store inside", [{ query: "a", vector_store_id: "vs" }], "searches[0].vector_store_id"],
    ["51 results", [{ query: "a" }, { query: "a", max_num_results: 51 }], "searches[1].max_num_results"],
    ["neither text nor vector", [{ query: "a" }, {}], "searches[1].query"],
    ["an empty text", [{ query: ["a", ""] }], "searches[0].query[1]"],
    [
      "a filter without value",
      [{ query: "a", filters: { type: "eq", key: "k" } }],
      "searches[0].filters.value",
    ],
    ["two weights of 0", [{ query: "a", ...hybrid(0, 0) }], `searches[0].${weight}.embedding_weight`],
    ["a vector of other length", [{ query: "a" }, { embedding: [1] }], "searches[1].embedding"],
  ])("refuses a batch with %s", async (_, searches, param) => {
    await expect(batch(searches)).rejects.toMatchObject({ code: "invalid_argument", param });
  });

  test("says which store there is not", async () => {
    const searches = [{ query: "a" }];
    const before = provider.requests.length;
    await expect(
      call("SearchService/BatchSearch", { vector_store_id: "vs_none", searches }),
    ).rejects.toMatchObject({ code: "not_found", param: "vector_store_id" });
    expect(provider.requests).toHaveLength(before);
  });
});
