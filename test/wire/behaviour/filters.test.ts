import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { promoteStore } from "../../../src/indexes/worker.ts";
import { type Json, type Reply } from "../../support/clients/client.ts";
import { protocols } from "../../support/clients/clients.ts";
import { TEST_INDEXES } from "../../support/stores/index-store.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

const rows = [
  { id: "a", content: "Whales sing at night.", metadata: { at: "2024-05-01", kind: "whale" } },
  {
    id: "b",
    content: "The grey whale sleeps.",
    metadata: { at: "2024-05-01T01:00:00+02:00", kind: "whale" },
  },
  { id: "c", content: "Owls hunt at night.", metadata: { at: "2024-04-30T23:30:00Z", kind: "owl" } },
  { id: "d", content: "Grey owls are rare.", metadata: { at: "May 2024", kind: "owl" } },
  { id: "e", content: "Nothing.", metadata: { at: 20_240_501 } },
];

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let storeId: string;
  let ownId: string;
  async function createStore(): Promise<string> {
    const { id } = await call("VectorStoreService/CreateVectorStore");
    const embeddings = rows.map((row, index) => ({ ...row, embedding: [1, index] }));
    await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: id, embeddings });
    return id;
  }
  beforeAll(async () => {
    [storeId, ownId] = await Promise.all([createStore(), createStore()]);
    await promoteStore(server.database, ownId, TEST_INDEXES);
  });

  const search = (request: Json): Promise<Reply> =>
    call("SearchService/Search", { vector_store_id: storeId, embedding: [1, 0], ...request });
  const idsOf = (reply: Reply): string[] => reply.data.map(({ id }: { id: string }) => id).toSorted();
  const date = (type: string, value: string): Json => ({ type, key: "at", value, value_type: "date" });
  const and = (...filters: Json[]): Json => ({ type: "and", filters });

  const cases: [string, Json, string[]][] = [
    ["a date", date("gte", "2024-05-01"), ["a"]],
    ["an earlier time of another zone", date("lt", "2024-05-01T00:00:00Z"), ["b", "c"]],
    ["the same moment", and(date("gte", "2024-05-01T01:30:00+02:00"), date("lt", "2024-05-01")), ["c"]],
    ["any date", date("gt", "0001-01-01"), ["a", "b", "c"]],
  ];

  test.each(cases)("%s is compared as a moment", async (_, filters, expected) => {
    for (const vector_store_id of [storeId, ownId]) {
      const given = { vector_store_id, filters };
      expect(idsOf(await search(given))).toEqual(expected);
      expect(idsOf(await call("EmbeddingService/QueryEmbeddings", given))).toEqual(expected);
      expect(await call("EmbeddingService/CountEmbeddings", given)).toMatchObject({ count: expected.length });
    }
  });

  test("without their type dates are compared as texts", async () => {
    const filters = { type: "lt", key: "at", value: "2024-05-01T00:00:00Z" };
    expect(idsOf(await search({ filters }))).toEqual(["a", "c"]);
  });

  const words = (value: string): Json => ({ type: "text", value });

  test.each<[string, Json, string[]]>([
    ["whales", words("whales"), ["a", "b"]],
    ["GREY", words("GREY"), ["b", "d"]],
    ["night sings", words("night sings"), ["a"]],
    ['"owls hunt"', words('"owls hunt"'), ["c"]],
    ['"hunt owls"', words('"hunt owls"'), []],
    ["sing or sleeping", words("sing or sleeping"), ["a", "b"]],
    ["night -owls", words("night -owls"), ["a"]],
    ["the", words("the"), []],
    ["') & !!", words("') & !! \\ :*"), []],
    ["grey of the owls", and(words("grey"), { type: "eq", key: "kind", value: "owl" }), ["d"]],
    ["grey, or a date", { type: "or", filters: [words("grey"), date("gte", "2024-05-01")] }, ["a", "b", "d"]],
  ])("the words %s are looked for in the text", async (_, filters, expected) => {
    for (const vector_store_id of [storeId, ownId]) {
      const given = { vector_store_id, filters };
      expect(idsOf(await search(given))).toEqual(expected);
      expect(idsOf(await search({ ...given, group_by: "file" }))).toEqual(expected);
      expect(idsOf(await call("EmbeddingService/QueryEmbeddings", given))).toEqual(expected);
      expect(await call("EmbeddingService/CountEmbeddings", given)).toMatchObject({ count: expected.length });
    }
    const hybrid = {
      query: "night",
      ranking_options: { hybrid_search: { embedding_weight: 1, text_weight: 1 } },
    };
    for (const vector_store_id of [storeId, ownId])
      expect(idsOf(await search({ ...hybrid, vector_store_id, filters }))).toEqual(expected);
  });

  test("words are those of the store's language", async () => {
    const { id } = await call("VectorStoreService/CreateVectorStore", { language: "german" });
    const embeddings = ["die Häuser", "das Haus", "the house"].map((content, index) => ({
      id: `h${index}`,
      content,
      embedding: [1, index],
    }));
    await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: id, embeddings });
    expect(idsOf(await search({ vector_store_id: id, filters: words("Haus") }))).toEqual(["h0", "h1"]);
  });

  test("embeddings are purged by words", async () => {
    const id = await createStore();
    const purge = (filters: Json) =>
      call("EmbeddingService/PurgeEmbeddings", { vector_store_id: id, filters });
    expect(await purge(words("night"))).toMatchObject({ deleted_count: 2 });
    await promoteStore(server.database, id, TEST_INDEXES);
    expect(await purge(words("grey"))).toMatchObject({ deleted_count: 2 });
    expect(idsOf(await search({ vector_store_id: id }))).toEqual(["e"]);
  });

  test.each<[string, Json, string]>([
    ["words under a key", { type: "text", key: "kind", value: "whale" }, "filters.key"],
    ["no words", and({ type: "text" }), "filters.filters[0].value"],
    ["words that are a number", { type: "text", value: 1 }, "filters.value"],
    ["more than 1,024 characters of words", words("x".repeat(1_025)), "filters.value"],
    ["a day that there is not", date("gt", "2024-02-30"), "filters.value"],
    ["a date in words", date("gt", "May 2024"), "filters.value"],
    ["a number of seconds", { ...date("gt", ""), value: 1_714_521_600 }, "filters.value"],
    ["no date", { type: "gt", key: "at", value_type: "date" }, "filters.value"],
    ["equality of dates", date("eq", "2024-05-01"), "filters.value_type"],
    [
      "a type of conditions joined",
      { ...and(date("gt", "2024-05-01")), value_type: "date" },
      "filters.value_type",
    ],
  ])("refuses %s", async (_, filters, param) => {
    await expect(search({ filters })).rejects.toMatchObject({ code: "invalid_argument", param });
  });
});
