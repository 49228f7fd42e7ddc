import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createLexicalEmbedder } from "../../../../src/models/lexical.ts";
import type { Embedder } from "../../../../src/models/embedder.ts";
import type { CallOptions, Json, Reply } from "../../../support/clients/client.ts";
import { protocols } from "../../../support/clients/clients.ts";
import { openTestDatabase } from "../../../support/databases/database.ts";
import { makeProject, makeTestKey } from "../../../support/stores/keys.ts";
import { startServer } from "../../../support/servers/server.ts";

const lexical = createLexicalEmbedder();
/** The texts of each call of the embedder. */
const embedded: string[][] = [];
const embedder: Embedder = {
  ...lexical,
  embed: (texts, ...rest) => {
    embedded.push([...texts]);
    return lexical.embed(texts, ...rest);
  },
};
const database = await openTestDatabase();
const server = await startServer({ database, embedder, apiKeys: ["the-key-of-the-environment"] });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
});
const project = await makeProject(database);
const keys = {
  all: await makeTestKey(database, "default"),
  listed: await makeTestKey(database, "default", ["search"], ["one"]),
  foreign: await makeTestKey(database, project),
};

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  const ask = (rpc: string, request: Json, options: CallOptions = {}): Promise<Reply> =>
    call(rpc, request, { key: keys.all, ...options });
  const stores = { numbers: "", words: "", own: "", empty: "" };
  async function createStore(embeddings: Json[]): Promise<string> {
    const { id } = await ask("VectorStoreService/CreateVectorStore", {});
    if (embeddings.length > 0)
      await ask("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: id, embeddings });
    return id;
  }
  beforeAll(async () => {
    const text = (id: string, content: string) => ({ id, content, metadata: { of: content } });
    stores.numbers = await createStore([
      text("a", "one two three"),
      text("b", "four five six"),
      text("c", "owls"),
    ]);
    stores.words = await createStore([
      text("a", "one two three four"),
      text("d", "owls hunt mice"),
      text("e", "hens"),
    ]);
    const vector = Array.from({ length: lexical.dimensions as number }, (_, index) => index % 7);
    stores.own = await createStore([{ id: "v", content: "a vector of its own", embedding: vector }]);
    stores.empty = await createStore([]);
  });

  const search = (ids: string[], request: Json = {}, options?: CallOptions) =>
    ask("SearchService/SearchVectorStores", { vector_store_ids: ids, query: "owls", ...request }, options);
  const placesOf = (reply: Reply): [string, string][] =>
    reply.data.map((hit: Reply) => [hit.vector_store_id, hit.id]);

  test("merges by score what stores of one model have", async () => {
    const { numbers, words, empty } = stores;
    const reply = await search([numbers, empty, words], { query: "one two three", max_num_results: 4 });
    expect(reply).toMatchObject({
      object: "vector_store.search_results.page",
      search_query: ["one two three"],
      merged_by: "score",
      errors: [],
      usage: { total_tokens: expect.any(Number) },
      statistics: { method: "exact", complete: true },
    });
    expect(placesOf(reply).slice(0, 2)).toEqual([
      [numbers, "a"],
      [words, "a"],
    ]);
    expect(reply.data[0]).toEqual({
      vector_store_id: numbers,
      file_id: "a",
      filename: "document.txt",
      score: expect.closeTo(1, 5),
      attributes: { of: "one two three" },
      content: [{ type: "text", text: "one two three" }],
      id: "a",
      embedding: null,
      passage: null,
      place: null,
    });
    expect(reply.data).toHaveLength(4);
    const alone = await Promise.all(
      [numbers, words].map(async (id) => {
        const { data } = await ask("SearchService/Search", { vector_store_id: id, query: "one two three" });
        return data.map((hit: Reply) => hit.score as number) as number[];
      }),
    );
    const scores = alone.flat().toSorted((a, b) => b - a);
    expect(reply.data.map((hit: Reply) => hit.score)).toEqual(
      scores.slice(0, 4).map((score) => expect.closeTo(score, 6)),
    );
  });

  test("embeds the texts once", async () => {
    embedded.length = 0;
    const query = [`owls over ${protocol.name}`, `mice over ${protocol.name}`];
    const reply = await search([stores.numbers, stores.words], { query });
    expect(embedded).toEqual([query]);
    expect(reply.statistics.stages).toEqual([
      { name: "embed", count: 2, duration_ms: expect.any(Number) },
      { name: "search", count: 4, duration_ms: expect.any(Number) },
    ]);
  });

  test("merges by rank where the scores are of different models", async () => {
    const { words, own } = stores;
    const reply = await search([own, words]);
    expect(reply.merged_by).toBe("rank");
    expect(placesOf(reply).slice(0, 2)).toEqual([
      [own, "v"],
      [words, "d"],
    ]);
    const second = expect.closeTo(61 / 62, 6);
    expect(reply.data.map((hit: Reply) => hit.score).slice(0, 3)).toEqual([1, 1, second]);
  });

  test("applies the filter, the threshold and the limit", async () => {
    const { numbers, words, own } = stores;
    const filters = { type: "eq", key: "of", value: "owls" };
    expect(placesOf(await search([numbers, words], { filters }))).toEqual([[numbers, "c"]]);
    const ranking_options = { score_threshold: 0.99 };
    expect(placesOf(await search([numbers, words], { ranking_options }))).toEqual([[numbers, "c"]]);
    expect(placesOf(await search([own, numbers], { ranking_options }))).toEqual([[numbers, "c"]]);
    expect((await search([numbers, words], { limit: 1_000 })).data).toHaveLength(6);
    expect((await search([numbers, words], { limit: 2 })).data).toHaveLength(2);
  });

  test("names the stores that fail, and fails when all do", async () => {
    const missing = (id: string) => ({
      vector_store_id: id,
      code: "not_found",
      message: `No vector store found with id '${id}'.`,
    });
    const reply = await search(["vs_none", stores.numbers, "vs_gone"]);
    expect(reply.errors).toEqual([missing("vs_none"), missing("vs_gone")]);
    expect(reply.data).toHaveLength(3);
    const vector = Array.from({ length: lexical.dimensions as number }, () => 1);
    const two = await createStore([{ content: "two", embedding: [1, 2] }]);
    const mixed = await search([two, stores.own], { query: [], embedding: vector });
    expect(mixed.errors).toMatchObject([
      { vector_store_id: two, message: expect.stringContaining("2 dimensions") },
    ]);
    expect(placesOf(mixed)).toEqual([[stores.own, "v"]]);
    const all = search(["vs_none", "vs_gone"]);
    await expect(all).rejects.toMatchObject({ code: "not_found", message: missing("vs_none").message });
  });

  test("a store of others is one that does not exist", async () => {
    const { numbers } = stores;
    await ask("VectorStoreService/CreateVectorStore", { id: "one" }).catch(() => {});
    const reply = await search(["one", numbers], {}, { key: keys.listed });
    const none = await search(["one", "vs_none"], {}, { key: keys.listed });
    expect(reply.data).toEqual([]);
    expect(JSON.stringify(reply.errors).replaceAll(numbers, "vs_none")).toBe(JSON.stringify(none.errors));
    const foreign = search([numbers], {}, { key: keys.foreign });
    await expect(foreign).rejects.toMatchObject({
      code: "not_found",
      message: `No vector store found with id '${numbers}'.`,
    });
    const own = (await ask("VectorStoreService/CreateVectorStore", {}, { key: keys.foreign })).id;
    const content = [{ id: "mine", content: "owls of the other project" }];
    const rows = { vector_store_id: own, embeddings: content };
    await ask("EmbeddingService/BatchCreateEmbeddings", rows, { key: keys.foreign });
    const both = await search([own, numbers], {}, { key: keys.foreign });
    expect(placesOf(both)).toEqual([[own, "mine"]]);
    expect(both.errors).toMatchObject([{ vector_store_id: numbers }]);
  });

  test.each<[string, Json, string]>([
    ["no store", { vector_store_ids: [] }, "vector_store_ids"],
    ["17 stores", { vector_store_ids: "abcdefghijklmnopq".split("") }, "vector_store_ids"],
    ["a store twice", { vector_store_ids: ["a", "b", "a"] }, "vector_store_ids[2]"],
    ["neither text nor vector", { query: [] }, "query"],
    ["51 results", { max_num_results: 51 }, "max_num_results"],
    ["1,001 results with limit", { limit: 1_001 }, "limit"],
  ])("refuses %s", async (_, request, param) => {
    await expect(search(["a"], request)).rejects.toMatchObject({ code: "invalid_argument", param });
  });
});
