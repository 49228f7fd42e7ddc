import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Json, Reply } from "../../../support/clients/client.ts";
import { protocols } from "../../../support/clients/clients.ts";
import { grpcByGrpcJs } from "../../../support/clients/grpc-client.ts";
import { restOverHttp1 } from "../../../support/clients/rest-client.ts";
import { startServer } from "../../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

const books = [
  {
    id: "a",
    content: "one",
    metadata: { price: 10, tags: ["new", "red", "new"], lang: "en" },
    created_at: 50,
  },
  { id: "b", content: "two", metadata: { price: 9, tags: ["red"], lang: "en" }, created_at: 40 },
  { id: "c", content: "three", metadata: { price: "9", tags: "red", lang: "de" }, created_at: 30 },
  { id: "d", content: "four", metadata: { price: 1e300, sold: true }, created_at: 20 },
  { id: "e", content: "five", metadata: { price: 9, lang: "x".repeat(513), sold: false }, created_at: 20 },
  { id: "f", content: "six", created_at: 10 },
].map((book) => ({ ...book, embedding: [1, 2] }));

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let storeId: string;
  beforeAll(async () => {
    storeId = await createStore(books);
  });

  async function createStore(embeddings: Json[]): Promise<string> {
    const { id } = await call("VectorStoreService/CreateVectorStore");
    await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: id, embeddings });
    return id;
  }

  const ask = (method: string, request: Json = {}): Promise<Reply> =>
    call(`EmbeddingService/${method}`, { vector_store_id: storeId, ...request });
  const query = (request?: Json) => ask("QueryEmbeddings", request);
  const idsOf = (reply: Reply): string[] => reply.data.map(({ id }: { id: string }) => id);

  async function walk(request: Json, between: () => Promise<void> = async () => {}): Promise<string[]> {
    const ids: string[] = [];
    for (let page: string | undefined; ;) {
      const reply = await query({ ...request, ...(page !== undefined && { page }) });
      ids.push(...idsOf(reply));
      expect(reply.has_more).toBe(reply.next_page !== null);
      if (!reply.has_more) return ids;
      page = reply.next_page;
      await between();
    }
  }

  test("finds embeddings without a query, the newest first", async () => {
    expect(await query({ limit: 1 })).toEqual({
      object: "list",
      data: [
        {
          id: "a",
          object: "embedding",
          vector_store_id: storeId,
          content: "one",
          metadata: books[0]?.metadata,
          created_at: 50,
          embedding: null,
          place: null,
        },
      ],
      has_more: true,
      next_page: expect.any(String),
    });
    expect(idsOf(await query())).toEqual(["a", "b", "c", "e", "d", "f"]);
    expect(idsOf(await query({ order_by: { order: "asc" } }))).toEqual(["f", "d", "e", "c", "b", "a"]);
  });

  test.each<[Json, string[]]>([
    [{ attribute: "price", type: "number", order: "asc" }, ["b", "e", "a", "d", "c", "f"]],
    [{ attribute: "price", type: "number" }, ["d", "a", "e", "b", "f", "c"]],
    [{ attribute: "price", type: "string", order: "asc" }, ["c", "a", "b", "d", "e", "f"]],
    [{ attribute: "lang", type: "string", order: "desc" }, ["e", "b", "a", "c", "f", "d"]],
  ])("orders by %j, in pages of every size", async (order_by, ids) => {
    expect(idsOf(await query({ order_by }))).toEqual(ids);
    for (const limit of [1, 2, 4, 5, 6]) expect(await walk({ order_by, limit })).toEqual(ids);
  });

  test("returns the fields that are asked for", async () => {
    const filters = { type: "eq", key: "lang", value: "de" };
    const [bare] = (await query({ filters, include: ["embedding"] })).data;
    expect(bare).toMatchObject({ id: "c", content: "", embedding: [1, 2] });
    expect(bare.metadata ?? null).toBeNull();
    const [content] = (await query({ filters, include: ["content"] })).data;
    expect(content).toMatchObject({ content: "three", embedding: null });
    const [metadata] = (await query({ filters, include: ["metadata"] })).data;
    expect(metadata).toMatchObject({ content: "", metadata: books[2]?.metadata });
  });

  test("counts", async () => {
    expect(await ask("CountEmbeddings")).toEqual({ object: "embedding.count", count: 6 });
    const filters = { type: "gte", key: "price", value: 10 };
    expect((await ask("CountEmbeddings", { filters })).count).toBe(2);
    expect((await ask("CountEmbeddings", { filters: { type: "in", key: "a", value: [] } })).count).toBe(0);
  });

  test("counts the values of attributes, each element of a list once", async () => {
    const attributes = ["tags", "price", "lang", "sold", "none"];
    expect(await ask("FacetEmbeddings", { attributes, values_max: 2 })).toEqual({
      object: "embedding.facets",
      data: [
        {
          attribute: "tags",
          values: [
            { value: "red", count: 3 },
            { value: "new", count: 1 },
          ],
          has_more: false,
        },
        {
          attribute: "price",
          values: [
            { value: 9, count: 2 },
            { value: "9", count: 1 },
          ],
          has_more: true,
        },
        {
          attribute: "lang",
          values: [
            { value: "en", count: 2 },
            { value: "de", count: 1 },
          ],
          has_more: false,
        },
        {
          attribute: "sold",
          values: [
            { value: false, count: 1 },
            { value: true, count: 1 },
          ],
          has_more: false,
        },
        { attribute: "none", values: [], has_more: false },
      ],
    });
    const filters = { type: "eq", key: "lang", value: "en" };
    const { data } = await ask("FacetEmbeddings", { attributes: ["price"], filters });
    expect(data[0].values).toEqual([
      { value: 9, count: 1 },
      { value: 10, count: 1 },
    ]);
  });

  test("ends a page before it exceeds 3 MiB, and goes on", async () => {
    const rows = Array.from({ length: 40 }, (_, number) => ({
      id: `r${10 + number}`,
      content: "x".repeat(120_000),
      embedding: [1],
      metadata: number < 20 ? { number } : {},
    }));
    const vector_store_id = await createStore(rows);
    const request = {
      vector_store_id,
      limit: 1_000,
      order_by: { attribute: "number", type: "number", order: "asc" },
    };
    expect((await query(request)).data.length).toBeLessThan(30);
    expect(await walk(request)).toEqual(rows.map(({ id }) => id));
    expect((await query({ ...request, include: ["metadata"] })).data).toHaveLength(40);
  });

  test("gives no row twice and misses none while others come and go", async () => {
    const number = fc.integer({ min: 0, max: 30 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.option(number), { minLength: 10, maxLength: 30 }),
        fc.array(number, { minLength: 5, maxLength: 5 }),
        fc.integer({ min: 1, max: 7 }),
        fc.constantFrom("asc", "desc"),
        async (values, changes, limit, order) => {
          const toRow = (value: number | null, id: string) => ({
            id,
            content: "text",
            embedding: [1],
            metadata: value === null ? {} : { value },
          });
          const vector_store_id = await createStore(values.map((value, index) => toRow(value, `r${index}`)));
          const stays = new Set(values.map((_, index) => `r${index}`));
          let step = 0;
          const order_by = { attribute: "value", type: "number", order };
          const ids = await walk({ vector_store_id, limit, order_by }, async () => {
            const change = changes[step++];
            if (change === undefined) return;
            const removed = `r${change % values.length}`;
            await Promise.all([
              call("EmbeddingService/BatchCreateEmbeddings", {
                vector_store_id,
                embeddings: [toRow(change, `s${step}`), toRow(null, `t${step}`)],
              }),
              stays.delete(removed) &&
                call("EmbeddingService/DeleteEmbedding", { vector_store_id, embedding_id: removed }),
            ]);
          });
          expect(new Set(ids).size).toBe(ids.length);
          expect(ids.filter((id) => stays.has(id)).toSorted()).toEqual([...stays].toSorted());
        },
      ),
      { numRuns: 3 },
    );
  });

  test.each<[string, string, Json, string]>([
    ["QueryEmbeddings", "no limit", { limit: 0 }, "limit"],
    ["QueryEmbeddings", "1,001 rows", { limit: 1_001 }, "limit"],
    ["QueryEmbeddings", "an attribute without type", { order_by: { attribute: "a" } }, "order_by.type"],
    ["QueryEmbeddings", "a type alone", { order_by: { type: "number" } }, "order_by.attribute"],
    [
      "QueryEmbeddings",
      "an attribute without name",
      { order_by: { attribute: "", type: "number" } },
      "order_by.attribute",
    ],
    ["QueryEmbeddings", "a page that is none", { page: "none" }, "page"],
    ["QueryEmbeddings", "a filter without type", { filters: { key: "k", value: 1 } }, "filters.type"],
    ["CountEmbeddings", "a filter without type", { filters: { key: "k", value: 1 } }, "filters.type"],
    ["FacetEmbeddings", "no attribute", {}, "attributes"],
    ["FacetEmbeddings", "11 attributes", { attributes: "abcdefghijk".split("") }, "attributes"],
    ["FacetEmbeddings", "an attribute twice", { attributes: ["a", "b", "a"] }, "attributes[2]"],
    ["FacetEmbeddings", "no values", { attributes: ["a"], values_max: 0 }, "values_max"],
    ["FacetEmbeddings", "101 values", { attributes: ["a"], values_max: 101 }, "values_max"],
  ])("%s refuses %s", async (method, _, request, param) => {
    await expect(ask(method, request)).rejects.toMatchObject({ code: "invalid_argument", param });
  });

  test("refuses the page of another query", async () => {
    const { next_page: page } = await query({ limit: 2 });
    expect(idsOf(await query({ limit: 3, page }))).toEqual(["c", "e", "d"]);
    const others = [{ order_by: { order: "asc" } }, { filters: { type: "ne", key: "k", value: 1 } }];
    for (const other of others) {
      const foreign = query({ page, ...other });
      await expect(foreign).rejects.toMatchObject({ code: "invalid_argument", param: "page" });
    }
  });

  test.each(["QueryEmbeddings", "CountEmbeddings", "FacetEmbeddings"])(
    "%s says which store there is not",
    async (method) => {
      const asked = ask(method, {
        vector_store_id: "vs_none",
        ...(method === "FacetEmbeddings" && { attributes: ["a"] }),
      });
      await expect(asked).rejects.toMatchObject({ code: "not_found", param: "vector_store_id" });
    },
  );
});

test("a count that takes too long is an error, never a guess", async () => {
  await using slow = await startServer({ database: server.database, search: { timeoutMs: 1 } });
  for (const protocol of [restOverHttp1, grpcByGrpcJs]) {
    await using client = protocol.connect(slow);
    const { id } = await client.call("VectorStoreService/CreateVectorStore");
    const keys = "abcdefghij".split("");
    const metadata = Object.fromEntries(keys.map((key) => [key, [1, 2, 3]]));
    const embeddings = Array.from({ length: 5_000 }, () => ({ content: "text", embedding: [1], metadata }));
    await client.call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: id, embeddings });
    const facets = client.call("EmbeddingService/FacetEmbeddings", { vector_store_id: id, attributes: keys });
    await expect(facets).rejects.toMatchObject({
      code: "deadline_exceeded",
      message: expect.stringContaining("SEARCH_TIMEOUT_SECONDS"),
    });
  }
});
