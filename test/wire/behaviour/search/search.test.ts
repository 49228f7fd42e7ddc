import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Json, type Reply } from "../../../support/clients/client.ts";
import { protocols } from "../../../support/clients/clients.ts";
import { startServer } from "../../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

const animals = [
  {
    id: "fox",
    content: "The quick brown fox jumps over the lazy dog.",
    metadata: { kind: "mammal", legs: 4, wild: true },
  },
  {
    id: "hen",
    content: "A hen lays eggs in the morning.",
    metadata: { kind: "bird", legs: 2, wild: false, filename: "hen.txt" },
  },
  {
    id: "owl",
    content: "Owls hunt mice at night.",
    metadata: { kind: "bird", legs: 2, wild: true, filename: 7 },
  },
  {
    id: "snake",
    content: "Snakes shed their skin.",
    metadata: { kind: "reptile", legs: 0, 'it\'s "odd" ü🐍': "yes" },
  },
  {
    id: "text",
    content: "This one is only like the others.",
    metadata: { legs: "4", wild: "true", list: ["bird"] },
  },
  { id: "bare", content: "Nothing is known of this one." },
];

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let storeId: string;
  let vectorStoreId: string;
  beforeAll(async () => {
    storeId = (await call("VectorStoreService/CreateVectorStore")).id;
    await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: storeId, embeddings: animals });
    vectorStoreId = (await call("VectorStoreService/CreateVectorStore")).id;
    await call("EmbeddingService/BatchCreateEmbeddings", {
      vector_store_id: vectorStoreId,
      // Their angles to [1, 0]: 0°, 45°, 90°, 135°, 180°.
      embeddings: [
        [2, 0],
        [1, 1],
        [0, 3],
        [-1, 1],
        [-5, 0],
      ].map((embedding, index) => ({ id: `v${index}`, content: "v", embedding })),
    });
  });

  const search = (request: Json): Promise<Reply> =>
    call("SearchService/Search", { vector_store_id: storeId, ...request });
  const searchVectors = (request: Json = {}): Promise<Reply> =>
    call("SearchService/Search", { vector_store_id: vectorStoreId, embedding: [1, 0], ...request });
  const idsOf = (reply: Reply): string[] => reply.data.map(({ id }: { id: string }) => id);

  test("finds by text", async () => {
    const reply = await search({ query: "which bird hunts mice at night?" });
    expect(reply).toEqual({
      object: "vector_store.search_results.page",
      search_query: ["which bird hunts mice at night?"],
      data: expect.any(Array),
      has_more: false,
      next_page: null,
      usage: { total_tokens: expect.any(Number) },
      statistics: {
        method: "exact",
        complete: true,
        ranker: null,
        rerank_failed: false,
        stages: [
          { name: "embed", count: 1, duration_ms: expect.any(Number) },
          { name: "search", count: 1, duration_ms: expect.any(Number) },
        ],
      },
    });
    expect(reply.data[0]).toEqual({
      file_id: "owl",
      filename: "document.txt",
      score: expect.any(Number),
      attributes: animals[2]?.metadata,
      content: [{ type: "text", text: "Owls hunt mice at night." }],
      id: "owl",
      embedding: null,
      passage: null,
      place: null,
      ...(protocol.name.startsWith("REST") && { metadata: animals[2]?.metadata }),
    });
    const scores = reply.data.map(({ score }: { score: number }) => score);
    expect(scores).toEqual(scores.toSorted((a: number, b: number) => b - a));
    for (const score of scores) expect(score).toBeGreaterThanOrEqual(0);
    for (const score of scores) expect(score).toBeLessThanOrEqual(1);
  });

  test("names the file as the metadata does", async () => {
    expect((await search({ query: "hen lays eggs" })).data[0]).toMatchObject({
      id: "hen",
      filename: "hen.txt",
    });
  });

  test("finds by several texts, each row once with its best score", async () => {
    const texts = ["quick brown fox", "snakes shed skin"];
    const [fox, snake] = await Promise.all(texts.map((query) => search({ query })));
    const reply = await search({ query: texts });
    expect(reply.search_query).toEqual(texts);
    expect(idsOf(reply).slice(0, 2).toSorted()).toEqual(["fox", "snake"]);
    expect(idsOf(reply).toSorted()).toEqual(animals.map(({ id }) => id).toSorted());
    for (const { id, score } of reply.data) {
      const scores = [fox, snake].map((one) => one.data.find((item: Reply) => item.id === id).score);
      expect(score).toBeCloseTo(Math.max(...scores), 6);
    }
  });

  test("scores half of one plus the cosine, best first", async () => {
    const reply = await searchVectors();
    expect(idsOf(reply)).toEqual(["v0", "v1", "v2", "v3", "v4"]);
    const expected = [0, 45, 90, 135, 180].map((degrees) => (1 + Math.cos((degrees * Math.PI) / 180)) / 2);
    expect(reply.data.map(({ score }: { score: number }) => score)).toEqual(
      expected.map((score) => expect.closeTo(score, 6)),
    );
    expect(reply).toMatchObject({ search_query: [], usage: { total_tokens: 0 } });
  });

  test("leaves out what scores below the threshold", async () => {
    expect(idsOf(await searchVectors({ ranking_options: { score_threshold: 0.6 } }))).toEqual(["v0", "v1"]);
    expect(idsOf(await searchVectors({ ranking_options: { score_threshold: 0 } }))).toHaveLength(5);
    expect(
      idsOf(await searchVectors({ embedding: [0, 1], ranking_options: { score_threshold: 1 } })),
    ).toEqual(["v2"]);
  });

  test("gives as many results as asked for, or as match", async () => {
    expect(idsOf(await searchVectors({ max_num_results: 1 }))).toEqual(["v0"]);
    expect(idsOf(await searchVectors({ max_num_results: 50 }))).toHaveLength(5);
    expect((await search({ query: ["fox", "owl"], max_num_results: 2 })).data).toHaveLength(2);
  });

  test("gives ten results unless told", async () => {
    const { id } = await call("VectorStoreService/CreateVectorStore");
    const rows = Array.from({ length: 12 }, (_, index) => ({
      id: `r${String(index).padStart(2, "0")}`,
      content: "same",
      embedding: [1],
    }));
    await call("EmbeddingService/BatchCreateEmbeddings", {
      vector_store_id: id,
      embeddings: rows.toReversed(),
    });
    const found = await searchVectors({ vector_store_id: id, embedding: [1] });
    expect(idsOf(found)).toEqual(rows.slice(0, 10).map((row) => row.id));
  });

  test.each(["auto", "none", "default-2024-11-15", "default_2024_08_21"])(
    "takes the ranker %s",
    async (ranker) => {
      const reply = await searchVectors({ ranking_options: { ranker }, rewrite_query: true });
      expect(reply.data).toHaveLength(5);
    },
  );

  const everyone = animals.map(({ id }) => id);
  test.each<[Json, string[]]>([
    [{ type: "eq", key: "kind", value: "bird" }, ["hen", "owl"]],
    [{ type: "eq", key: "legs", value: 4 }, ["fox"]],
    [{ type: "eq", key: "legs", value: "4" }, ["text"]],
    [{ type: "eq", key: "wild", value: true }, ["fox", "owl"]],
    [{ type: "eq", key: 'it\'s "odd" ü🐍', value: "yes" }, ["snake"]],
    [{ type: "ne", key: "kind", value: "bird" }, ["fox", "snake", "text", "bare"]],
    [{ type: "gt", key: "legs", value: 2 }, ["fox"]],
    [{ type: "gte", key: "legs", value: 2 }, ["fox", "hen", "owl"]],
    [{ type: "lt", key: "legs", value: 0.5 }, ["snake"]],
    [{ type: "lte", key: "legs", value: 2 }, ["hen", "owl", "snake"]],
    [{ type: "gt", key: "kind", value: "bird" }, ["fox", "snake"]],
    [{ type: "in", key: "kind", value: ["bird", "reptile", 4] }, ["hen", "owl", "snake"]],
    [{ type: "in", key: "wild", value: [false, "true"] }, ["hen", "text"]],
    [{ type: "in", key: "kind", value: [] }, []],
    [{ type: "nin", key: "kind", value: ["bird"] }, ["fox", "snake", "text", "bare"]],
    [{ type: "nin", key: "kind", value: [] }, everyone],
    [{ type: "exists", key: "kind" }, ["fox", "hen", "owl", "snake"]],
    [{ type: "exists", key: "kind", value: false }, ["text", "bare"]],
    [{ type: "contains", key: "list", value: "bird" }, ["text"]],
    [{ type: "contains", key: "kind", value: "bird" }, []],
    [{ type: "prefix", key: "kind", value: "m" }, ["fox"]],
    [{ type: "prefix", key: "filename", value: "" }, ["hen"]],
    [{ type: "suffix", key: "kind", value: "l" }, ["fox"]],
    [{ type: "substring", key: "kind", value: "ir" }, ["hen", "owl"]],
    [
      { type: "not", filters: [{ type: "substring", key: "kind", value: "ir" }] },
      ["fox", "snake", "text", "bare"],
    ],
    [
      {
        type: "and",
        filters: [
          { type: "eq", key: "kind", value: "bird" },
          {
            type: "or",
            filters: [
              { type: "eq", key: "wild", value: true },
              { type: "gt", key: "legs", value: 100 },
            ],
          },
        ],
      },
      ["owl"],
    ],
    [
      {
        type: "or",
        filters: [
          { type: "eq", key: "legs", value: 0 },
          { type: "eq", key: "legs", value: 4 },
        ],
      },
      ["fox", "snake"],
    ],
  ])("filters by %j", async (filters, expected) => {
    const reply = await search({ query: "one", filters });
    expect(idsOf(reply).toSorted()).toEqual(expected.toSorted());
  });

  test("filters to the depth and width of the limits", async () => {
    const comparison = { type: "eq", key: "kind", value: "bird" };
    let filters: Json = comparison;
    for (let depth = 1; depth < 16; depth++) filters = { type: "and", filters: [filters] };
    expect(idsOf(await search({ query: "one", filters })).toSorted()).toEqual(["hen", "owl"]);
    const tooDeep = search({ query: "one", filters: { type: "or", filters: [filters] } });
    await expect(tooDeep).rejects.toMatchObject({ code: "invalid_argument", param: "filters" });
    const wide = (count: number) =>
      search({ query: "one", filters: { type: "or", filters: Array(count).fill(comparison) } });
    expect(idsOf(await wide(255)).toSorted()).toEqual(["hen", "owl"]);
    await expect(wide(256)).rejects.toMatchObject({ code: "invalid_argument", param: "filters" });
  });

  test("finds nothing in an empty store", async () => {
    const { id } = await call("VectorStoreService/CreateVectorStore");
    expect((await search({ vector_store_id: id, query: "fox" })).data).toEqual([]);
    expect((await search({ vector_store_id: id, embedding: [1, 2] })).data).toEqual([]);
  });

  test.each<[string, Json, string]>([
    ["neither text nor vector", {}, "query"],
    ["ef_search 0", { query: "a", ef_search: 0 }, "ef_search"],
    ["ef_search 1,001", { query: "a", ef_search: 1_001 }, "ef_search"],
    ["text and vector", { query: "a", embedding: [1] }, "embedding"],
    ["an empty text", { query: "" }, "query"],
    ["a blank text among others", { query: ["a", " \n"] }, "query[1]"],
    ["17 texts", { query: Array(17).fill("a") }, "query"],
    ["a text of 32,769 characters", { query: "a".repeat(32_769) }, "query"],
    ["no results", { query: "a", max_num_results: 0 }, "max_num_results"],
    ["51 results", { query: "a", max_num_results: 51 }, "max_num_results"],
    ["an unknown ranker", { query: "a", ranking_options: { ranker: "best" } }, "ranking_options.ranker"],
    [
      "a threshold above 1",
      { query: "a", ranking_options: { score_threshold: 1.1 } },
      "ranking_options.score_threshold",
    ],
    [
      "a threshold below 0",
      { query: "a", ranking_options: { score_threshold: -0.1 } },
      "ranking_options.score_threshold",
    ],
    ["a filter without type", { query: "a", filters: { key: "k", value: 1 } }, "filters.type"],
    [
      "a filter without key",
      { query: "a", filters: { type: "or", filters: [{ type: "eq", value: 1 }] } },
      "filters.filters[0].key",
    ],
    [
      "a filter without value",
      { query: "a", filters: { type: "and", filters: [{ type: "eq", key: "k" }] } },
      "filters.filters[0].value",
    ],
    ["a joining of nothing", { query: "a", filters: { type: "and", filters: [] } }, "filters.filters"],
    [
      "a comparison with an object",
      { query: "a", filters: { type: "eq", key: "k", value: { a: 1 } } },
      "filters.value",
    ],
    [
      "a part of no text",
      { query: "a", filters: { type: "substring", key: "k", value: 1 } },
      "filters.value",
    ],
    [
      "a negation of two",
      {
        query: "a",
        filters: {
          type: "not",
          filters: [
            { type: "exists", key: "k" },
            { type: "exists", key: "l" },
          ],
        },
      },
      "filters.filters",
    ],
    ["a negation of nothing", { query: "a", filters: { type: "not", filters: [] } }, "filters.filters"],
    ["a prefix of no text", { query: "a", filters: { type: "prefix", key: "k", value: 1 } }, "filters.value"],
    [
      "an existence of sorts",
      { query: "a", filters: { type: "exists", key: "k", value: 1 } },
      "filters.value",
    ],
    [
      "a list in a list",
      { query: "a", filters: { type: "contains", key: "k", value: ["a"] } },
      "filters.value",
    ],
    ["an order of booleans", { query: "a", filters: { type: "gt", key: "k", value: true } }, "filters.value"],
    [
      "a list of lists",
      { query: "a", filters: { type: "in", key: "k", value: [["a"]] } },
      "filters.value[0]",
    ],
  ])("refuses %s", async (_, request, param) => {
    await expect(search(request)).rejects.toMatchObject({ code: "invalid_argument", param });
  });

  test("says which store there is not", async () => {
    await expect(search({ vector_store_id: "vs_none", query: "a" })).rejects.toMatchObject({
      code: "not_found",
      param: "vector_store_id",
      message: "No vector store found with id 'vs_none'.",
    });
  });
});
