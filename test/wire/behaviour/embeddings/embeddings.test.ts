import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { type Json, type Reply } from "../../../support/clients/client.ts";
import { protocols } from "../../../support/clients/clients.ts";
import { startServer } from "../../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

/** Finite float32 numbers, of both signs and many sizes, different for every seed. */
function vectorOf(dimensions: number, seed: number): number[] {
  return Array.from({ length: dimensions }, (_, index) =>
    Math.fround(Math.sin(index * 7 + seed) * 10 ** ((index % 13) - 6)),
  );
}

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let storeId: string;
  beforeEach(async () => {
    await pool.query("truncate vector_stores, embeddings");
    storeId = (await call("VectorStoreService/CreateVectorStore")).id;
  });

  const embeddings = (rpc: string, request: Json = {}): Promise<Reply> =>
    call(`EmbeddingService/${rpc}`, { vector_store_id: storeId, ...request });
  const create = (request: Json) => embeddings("CreateEmbedding", request);
  const batch = (...inputs: Json[]) => embeddings("BatchCreateEmbeddings", { embeddings: inputs });
  const get = (id: string) => embeddings("GetEmbedding", { embedding_id: id });
  const remove = (id: string) => embeddings("DeleteEmbedding", { embedding_id: id });
  const list = (page: Json = {}) => embeddings("ListEmbeddings", page);
  const idsOf = (page: Reply): string[] => page.data.map(({ id }: { id: string }) => id);
  const store = (): Promise<Reply> => call("VectorStoreService/GetVectorStore", { vector_store_id: storeId });
  const countRows = async () => Number((await pool.query("select count(*) from embeddings")).rows[0].count);

  describe("creating one", () => {
    test("stores the caller's vector and does not echo it", async () => {
      const metadata = {
        text: 'ü"\\',
        number: -1.5e300,
        yes: true,
        none: null,
        list: [1, [], {}],
        nested: { deep: { a: "" } },
      };
      const created = await create({ content: "Grüße,\n\t世界 🐘", embedding: [0.1, -2, 3e-38], metadata });
      expect(created).toEqual({
        id: expect.stringMatching(/^emb_[0-9a-f]{32}$/),
        object: "embedding",
        vector_store_id: storeId,
        content: "Grüße,\n\t世界 🐘",
        metadata,
        created_at: expect.any(Number),
        embedding: null,
        place: null,
      });
      expect(await get(created.id)).toEqual({ ...created, embedding: [0.1, -2, 3e-38].map(Math.fround) });
      expect(await store()).toMatchObject({ dimensions: 3, embedding_model: null });
    });

    test("keeps the caller's time of creation, alone and in a batch", async () => {
      const dated = { embedding: [1], created_at: 1_700_000_000 };
      expect(await create({ ...dated, id: "a", content: "x" })).toMatchObject({ created_at: 1_700_000_000 });
      const { data } = await batch({ ...dated, id: "b", content: "y" }, { content: "z", embedding: [2] });
      expect(data[0].created_at).toBe(1_700_000_000);
      expect(data[1].created_at).toBeGreaterThan(1_700_000_000);
      for (const id of ["a", "b"]) expect((await get(id)).created_at).toBe(1_700_000_000);
      for (const created_at of [-1, 253_402_300_800]) {
        const refused = create({ ...dated, content: "x", created_at });
        await expect(refused).rejects.toMatchObject({ code: "invalid_argument", param: "created_at" });
      }
    });

    test("keeps keys of metadata that mean something in JavaScript", async () => {
      const metadata = JSON.parse(
        '{"__proto__": {"polluted": true}, "constructor": {"prototype": {"polluted": true}}, "toString": "a"}',
      ) as Json;
      const created = await create({ content: "x", embedding: [1], metadata });
      expect(JSON.stringify(created.metadata)).toBe(JSON.stringify(metadata));
      expect(JSON.stringify((await get(created.id)).metadata)).toContain('"__proto__":{"polluted":true}');
      expect(({} as Json)["polluted"]).toBeUndefined();
    });

    test("embeds the text where no vector is given", async () => {
      const created = await create({ content: "the quick brown fox" });
      expect(created).toMatchObject({ content: "the quick brown fox", metadata: {} });
      const { dimensions, embedding_model: model } = await store();
      expect((await get(created.id)).embedding).toHaveLength(dimensions);
      expect(model).toEqual(expect.any(String));
    });

    test("refuses an id that is taken", async () => {
      await create({ id: "one", content: "first", embedding: [1] });
      await expect(create({ id: "one", content: "second", embedding: [1] })).rejects.toMatchObject({
        code: "already_exists",
        reason: "ALREADY_EXISTS",
        param: "id",
        message: "An embedding with the id 'one' already exists.",
      });
      expect((await get("one")).content).toBe("first");
      expect((await store()).file_counts).toMatchObject({ completed: 1, total: 1 });
    });

    test("lets two stores use one id", async () => {
      await create({ id: "same", content: "here", embedding: [1] });
      const other = await call("VectorStoreService/CreateVectorStore");
      await create({ vector_store_id: other.id, id: "same", content: "there", embedding: [1, 2] });
      expect((await get("same")).content).toBe("here");
    });

    test("needs a text", async () => {
      await expect(create({ embedding: [1] })).rejects.toMatchObject({
        code: "invalid_argument",
        reason: "MISSING_REQUIRED_PARAMETER",
        param: "content",
        message: "Missing required parameter: 'content'.",
      });
    });

    test("keeps a text of 1 MiB and refuses one byte more", async () => {
      const content = "ä".repeat(2 ** 19);
      const { id } = await create({ content, embedding: [1] });
      expect((await get(id)).content).toBe(content);
      expect((await store()).usage_bytes).toBe(2 ** 20);
      await expect(create({ content: `${content}a`, embedding: [1] })).rejects.toMatchObject({
        code: "invalid_argument",
        param: "content",
      });
    });
  });

  describe("creating a batch", () => {
    test("answers in the order of the request, with and without vectors", async () => {
      await create({ content: "fixes the dimensions" });
      const { dimensions } = await store();
      const inputs = [
        { content: "embedded by the service", metadata: { n: 0 } },
        { id: "mine", content: "embedded by the caller", embedding: vectorOf(dimensions, 1) },
        { content: "by the service again" },
      ];
      const reply = await batch(...inputs);
      expect(reply).toMatchObject({ object: "embedding.batch", created: expect.any(Number) });
      expect(reply.data).toHaveLength(3);
      for (const item of reply.data)
        expect(item).toMatchObject({ vector_store_id: storeId, embedding: null });
      expect(reply.data[1].id).toBe("mine");
      expect((await get("mine")).embedding).toEqual(inputs[1]?.embedding);
      const service = (await get(reply.data[2].id)).embedding;
      const alone = await create({ content: "by the service again" });
      expect(service).toEqual((await get(alone.id)).embedding);
    });

    test.each<[string, Json, Json]>([
      [
        "an id that is taken",
        { id: "taken", content: "b", embedding: [1] },
        { code: "already_exists", param: "embeddings[1].id" },
      ],
      [
        "an id that occurs twice",
        { id: "twice", content: "b", embedding: [1] },
        { code: "invalid_argument", param: "embeddings[1].id" },
      ],
      [
        "an empty text",
        { content: "", embedding: [1] },
        { code: "invalid_argument", param: "embeddings[1].content" },
      ],
      [
        "a vector of zeros",
        { content: "b", embedding: [0] },
        { code: "invalid_argument", param: "embeddings[1].embedding" },
      ],
      [
        "a vector of another length",
        { content: "b", embedding: [1, 2] },
        { code: "invalid_argument", reason: "DIMENSION_MISMATCH", param: "embeddings[1].embedding" },
      ],
    ])("stores nothing of a batch with %s", async (_, bad, expected) => {
      await create({ id: "taken", content: "taken", embedding: [1] });
      const good = { id: "twice", content: "a", embedding: [1] };
      await expect(batch(good, bad, { content: "c", embedding: [1] })).rejects.toMatchObject(expected);
      expect(await countRows()).toBe(1);
      expect((await store()).file_counts.total).toBe(1);
    });

    test("needs one embedding at least", async () => {
      await expect(batch()).rejects.toMatchObject({ code: "invalid_argument", param: "embeddings" });
    });
  });

  describe("dimensions", () => {
    test.each([1, 16_000])("%i are stored exactly and found", async (dimensions) => {
      const vectors = [
        vectorOf(dimensions, 1),
        vectorOf(dimensions, 2).map((number) => -Math.abs(number) || -1),
      ];
      const [one, two] = (await batch(...vectors.map((embedding) => ({ content: "v", embedding })))).data;
      expect((await get(one.id)).embedding).toEqual(vectors[0]);
      expect((await get(two.id)).embedding).toEqual(vectors[1]);
      const found = await call("SearchService/Search", { vector_store_id: storeId, embedding: vectors[0] });
      expect(found.data[0]).toMatchObject({ id: one.id, score: expect.closeTo(1, 6) });
      expect(found.data).toHaveLength(2);
    });

    test("more than 16,000 are refused", async () => {
      const refused = create({ content: "v", embedding: vectorOf(16_001, 1) });
      await expect(refused).rejects.toMatchObject({
        code: "invalid_argument",
        param: "embedding",
        reason: "ARRAY_ABOVE_MAX_LENGTH",
      });
    });

    test("are fixed by the first vector", async () => {
      await create({ content: "two", embedding: [1, 2] });
      await expect(create({ content: "three", embedding: [1, 2, 3] })).rejects.toMatchObject({
        code: "invalid_argument",
        reason: "DIMENSION_MISMATCH",
        param: "embedding",
        message: `Invalid 'embedding': vector store '${storeId}' holds vectors of 2 dimensions, but got 3.`,
      });
      const searched = call("SearchService/Search", { vector_store_id: storeId, embedding: [1] });
      await expect(searched).rejects.toMatchObject({
        code: "invalid_argument",
        reason: "DIMENSION_MISMATCH",
        param: "embedding",
      });
      expect(await countRows()).toBe(1);
    });

    test("are fixed at creation", async () => {
      storeId = (await call("VectorStoreService/CreateVectorStore", { dimensions: 2 })).id;
      await expect(create({ content: "three", embedding: [1, 2, 3] })).rejects.toMatchObject({
        reason: "DIMENSION_MISMATCH",
        message: expect.stringMatching(new RegExp(`${storeId}.* 2 .*3`)),
      });
      await expect(create({ content: "by the service" })).rejects.toMatchObject({
        reason: "DIMENSION_MISMATCH",
        param: "content",
      });
      await create({ content: "two", embedding: [1, 2] });
      expect((await store()).dimensions).toBe(2);
    });

    test("are fixed by one of several first vectors at the same time", async () => {
      const lengths = [1, 2, 3, 4, 5, 6];
      const results = await Promise.allSettled(
        lengths.map((length) => create({ content: "v", embedding: vectorOf(length, 1) })),
      );
      const stored = results.flatMap((result) => (result.status === "fulfilled" ? [result.value.id] : []));
      expect(stored).toHaveLength(1);
      for (const result of results)
        if (result.status === "rejected") expect(result.reason.reason).toBe("DIMENSION_MISMATCH");
      expect((await get(stored[0])).embedding).toHaveLength((await store()).dimensions);
    });
  });

  describe("listing", () => {
    test("gives each embedding once, whatever the limit and the order", async () => {
      const ids = ["A", "Z", "a", "b:1", "b:2", "z-9", "é".normalize("NFD").slice(0, 1)].toSorted();
      await batch(...ids.map((id) => ({ id, content: `text of ${id}`, embedding: [1] })));
      const expected = (await pool.query("select id from embeddings order by id")).rows.map(({ id }) => id);
      for (const limit of [1, 2, 3, 4, 5, 6, 7]) {
        for (const [order, sorted] of [
          ["asc", expected],
          ["desc", expected.toReversed()],
        ] as const) {
          const seen: string[] = [];
          for (
            let page = await list({ limit, order });
            ;
            page = await list({ limit, order, after: page.last_id })
          ) {
            expect(page).toMatchObject({
              object: "list",
              first_id: idsOf(page)[0],
              last_id: idsOf(page).at(-1),
            });
            seen.push(...idsOf(page));
            if (!page.has_more) break;
            expect(page.data).toHaveLength(limit);
          }
          expect(seen).toEqual(sorted);
        }
      }
      const before = await list({ limit: 2, order: "asc", before: expected[4] });
      expect(idsOf(before)).toEqual(expected.slice(2, 4));
      expect(before.has_more).toBe(true);
    });

    test("gives the newest first, and vectors only when asked", async () => {
      const { data } = await embeddings("BatchCreateEmbeddings", {
        embeddings: [
          { content: "a", embedding: [1] },
          { content: "b", embedding: [-2] },
        ],
        include_content: true,
      });
      const page = await list();
      expect(page.data).toEqual(data.toReversed());
      expect((await list({ include_embedding: true })).data.map((item: Reply) => item.embedding)).toEqual([
        [-2],
        [1],
      ]);
    });

    test("gives an empty page for an empty store", async () => {
      expect(await list()).toEqual({
        object: "list",
        data: [],
        first_id: null,
        last_id: null,
        has_more: false,
      });
    });

    test("gives each embedding once while others are added and those listed deleted", async () => {
      const first = idsOf(
        await batch(...Array.from({ length: 7 }, (_, index) => ({ content: `${index}`, embedding: [1] }))),
      );
      const seen: string[] = [];
      for (let page = await list({ limit: 2, order: "asc" }); page.data.length > 0;) {
        seen.push(...idsOf(page));
        await Promise.all(idsOf(page).map(remove));
        if (seen.length < 8) await create({ content: "late", embedding: [1] });
        page = await list({ limit: 2, order: "asc", after: page.last_id });
      }
      expect(new Set(seen).size).toBe(seen.length);
      expect(seen.slice(0, 7)).toEqual(first);
      expect(await countRows()).toBe(0);
    });
  });

  describe("deleting", () => {
    test("takes one embedding out of the store, its counts and its search", async () => {
      await batch({ id: "a", content: "aä", embedding: [1] }, { id: "b", content: "b", embedding: [1] });
      expect(await remove("a")).toEqual({ id: "a", object: "embedding.deleted", deleted: true });
      expect(await store()).toMatchObject({ usage_bytes: 1, file_counts: { completed: 1, total: 1 } });
      expect(idsOf(await list())).toEqual(["b"]);
      const found = await call("SearchService/Search", { vector_store_id: storeId, embedding: [1] });
      expect(idsOf(found)).toEqual(["b"]);
    });

    test("purges what a filter matches", async () => {
      const inputs = [1, 2, 3, 4].map((n) => ({
        id: `e${n}`,
        content: "x",
        embedding: [1],
        metadata: { n, even: n % 2 === 0 },
      }));
      await batch(...inputs, { id: "none", content: "x", embedding: [1] });
      const purged = await embeddings("PurgeEmbeddings", {
        filters: { type: "eq", key: "even", value: true },
      });
      expect(purged).toEqual({ object: "embedding.purged", deleted_count: 2 });
      expect(idsOf(await list({ order: "asc" }))).toEqual(["e1", "e3", "none"]);
      expect(await store()).toMatchObject({ usage_bytes: 3, file_counts: { completed: 3, total: 3 } });
      const nothing = await embeddings("PurgeEmbeddings", { filters: { type: "gt", key: "n", value: 3 } });
      expect(nothing.deleted_count).toBe(0);
    });

    test("purges nothing without a filter", async () => {
      await create({ content: "x", embedding: [1] });
      await expect(embeddings("PurgeEmbeddings")).rejects.toMatchObject({
        code: "invalid_argument",
        param: "filters",
      });
      expect(await countRows()).toBe(1);
    });
  });

  test.each(["GetEmbedding", "DeleteEmbedding"])("%s says which embedding there is not", async (rpc) => {
    await expect(embeddings(rpc, { embedding_id: "emb_none" })).rejects.toMatchObject({
      code: "not_found",
      reason: "NOT_FOUND",
      param: "embedding_id",
      message: `No embedding found with id 'emb_none' in vector store '${storeId}'.`,
    });
  });

  test.each<[string, Json]>([
    ["CreateEmbedding", { content: "x" }],
    ["BatchCreateEmbeddings", { embeddings: [{ content: "x" }] }],
    ["GetEmbedding", { embedding_id: "x" }],
    ["ListEmbeddings", {}],
    ["DeleteEmbedding", { embedding_id: "x" }],
    ["UpdateEmbedding", { embedding_id: "x", content: "x" }],
    ["BatchDeleteEmbeddings", { embedding_ids: ["x"] }],
    ["PurgeEmbeddings", { filters: { type: "eq", key: "k", value: 1 } }],
  ])("%s says which store there is not", async (rpc, request) => {
    await expect(embeddings(rpc, { ...request, vector_store_id: "vs_none" })).rejects.toMatchObject({
      code: "not_found",
      param: "vector_store_id",
      message: "No vector store found with id 'vs_none'.",
    });
  });
});
