import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { type Json, type Reply } from "../../support/clients/client.ts";
import { protocols } from "../../support/clients/clients.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());
  beforeEach(async () => void (await pool.query("truncate vector_stores, embeddings")));

  const create = (request?: Json): Promise<Reply> => call("VectorStoreService/CreateVectorStore", request);
  const get = (id: string): Promise<Reply> =>
    call("VectorStoreService/GetVectorStore", { vector_store_id: id });
  const update = (id: string, change: Json): Promise<Reply> =>
    call("VectorStoreService/UpdateVectorStore", { vector_store_id: id, ...change });
  const remove = (id: string): Promise<Reply> =>
    call("VectorStoreService/DeleteVectorStore", { vector_store_id: id });
  const list = (page: Json): Promise<Reply> => call("VectorStoreService/ListVectorStores", page);

  describe("creating", () => {
    test("needs no field at all", async () => {
      const before = Math.floor(Date.now() / 1000);
      const store = await create();
      expect(store).toEqual({
        id: expect.stringMatching(/^vs_[0-9a-f]{32}$/),
        object: "vector_store",
        created_at: expect.any(Number),
        name: "",
        description: null,
        usage_bytes: 0,
        file_counts: { in_progress: 0, completed: 0, failed: 0, cancelled: 0, total: 0 },
        status: "completed",
        expires_after: null,
        expires_at: null,
        last_active_at: store.created_at,
        metadata: {},
        dimensions: null,
        embedding_model: null,
        embedding_count: 0,
        precision: null,
        language: "english",
        index_state: "none",
        restrict_readers: false,
      });
      expect(store.created_at).toBeGreaterThanOrEqual(before);
      expect(store.created_at).toBeLessThanOrEqual(Date.now() / 1000);
      expect(await get(store.id)).toEqual(store);
    });

    test("keeps every field", async () => {
      const request = {
        id: "my.store:1_A-z",
        name: "Größe 🐘",
        description: "two\nlines",
        expires_after: { anchor: "last_active_at", days: 365 },
        metadata: { team: "search", "key with ' and \"": "" },
        dimensions: 16_000,
      };
      const store = await create({ ...request, file_ids: [], chunking_strategy: { type: "auto" } });
      expect(store).toMatchObject(request);
      expect(store.expires_at).toBe(store.created_at + 365 * 86_400);
      expect(await get(request.id)).toEqual(store);
    });

    test("takes null for every field that may be absent", async () => {
      const fields = [
        "name",
        "description",
        "file_ids",
        "expires_after",
        "chunking_strategy",
        "metadata",
        "id",
        "dimensions",
      ];
      const store = await create(Object.fromEntries(fields.map((field) => [field, null])));
      expect(store).toMatchObject({
        name: "",
        description: null,
        expires_after: null,
        metadata: {},
        dimensions: null,
      });
    });

    test("keeps metadata at OpenAI's limits", async () => {
      const metadata = Object.fromEntries(
        Array.from({ length: 16 }, (_, index) => [String(index).padStart(64, "k"), "v".repeat(512)]),
      );
      const store = await create({ metadata });
      expect((await get(store.id)).metadata).toEqual(metadata);
    });

    test("refuses an id that is taken", async () => {
      await create({ id: "taken", name: "first" });
      await expect(create({ id: "taken", name: "second" })).rejects.toMatchObject({
        code: "already_exists",
        reason: "ALREADY_EXISTS",
        param: "id",
        message: "A vector store with the id 'taken' already exists.",
      });
      expect((await get("taken")).name).toBe("first");
    });

    test.each<[string, Json, string]>([
      ["a long name", { name: "n".repeat(257) }, "name"],
      ["a long description", { description: "d".repeat(4097) }, "description"],
      ["no dimensions", { dimensions: 0 }, "dimensions"],
      ["too many dimensions", { dimensions: 16_001 }, "dimensions"],
      [
        "17 pairs of metadata",
        { metadata: Object.fromEntries(Array.from("0123456789abcdefg", (key) => [key, ""])) },
        "metadata",
      ],
      ["a long metadata key", { metadata: { ["k".repeat(65)]: "" } }, "metadata"],
      ["a long metadata value", { metadata: { k: "v".repeat(513) } }, "metadata.k"],
      [
        "an expiry of no days",
        { expires_after: { anchor: "last_active_at", days: 0 } },
        "expires_after.days",
      ],
      [
        "an expiry of 366 days",
        { expires_after: { anchor: "last_active_at", days: 366 } },
        "expires_after.days",
      ],
      ["another anchor", { expires_after: { anchor: 99, days: 1 } }, "expires_after.anchor"],
      [
        "sizes in characters for auto",
        { chunking_strategy: { type: "auto", characters: {} } },
        "chunking_strategy.characters",
      ],
      [
        "chunks of no characters",
        { chunking_strategy: { type: "characters", characters: {} } },
        "chunking_strategy.characters.max_chunk_size_characters",
      ],
      ["an unknown chunking", { chunking_strategy: { type: 99 } }, "chunking_strategy.type"],
      [
        "an overlap of more than half",
        {
          chunking_strategy: {
            type: "static",
            static: { max_chunk_size_tokens: 100, chunk_overlap_tokens: 51 },
          },
        },
        "chunking_strategy.static.chunk_overlap_tokens",
      ],
    ])("refuses %s", async (_, request, param) => {
      await expect(create(request)).rejects.toMatchObject({ code: "invalid_argument", param });
      expect((await list({})).data).toEqual([]);
    });

    test("tells an expiry of no days from one that does not say how many", async () => {
      const expire = (days?: number) =>
        create({ expires_after: { anchor: "last_active_at", ...(days !== undefined && { days }) } });
      await expect(expire(0)).rejects.toMatchObject({ reason: "INTEGER_BELOW_MIN_VALUE" });
      await expect(expire()).rejects.toMatchObject({
        reason: "MISSING_REQUIRED_PARAMETER",
        param: "expires_after.days",
      });
    });

    test("refuses files that do not exist, and makes no store", async () => {
      await expect(create({ id: "without-files", file_ids: ["file-1"] })).rejects.toMatchObject({
        code: "not_found",
        param: "file_ids[0]",
      });
      await expect(get("without-files")).rejects.toMatchObject({ code: "not_found" });
    });
  });

  describe("listing", () => {
    async function createSeveral(count: number): Promise<string[]> {
      const ids: string[] = [];
      for (let index = 0; index < count; index++) ids.push((await create()).id);
      return ids;
    }

    /** Stores of which several share their time of creation, in ascending order of the list. */
    async function createTied(count: number): Promise<string[]> {
      const ids = await createSeveral(count);
      await pool.query(
        "update vector_stores set created_at = date_trunc('minute', created_at) + (id > $1)::int * interval '1 s'",
        [ids[Math.floor(count / 2)]],
      );
      return ids;
    }

    async function walk(
      order: string,
      limit: number,
      onPage: (page: Reply) => unknown = () => undefined,
    ): Promise<string[]> {
      const ids: string[] = [];
      for (let after: string | undefined; ;) {
        const page = await list({ order, limit, ...(after !== undefined && { after }) });
        expect(page).toMatchObject({
          object: "list",
          first_id: page.data[0]?.id ?? null,
          last_id: page.data.at(-1)?.id ?? null,
        });
        ids.push(...page.data.map(({ id }: { id: string }) => id));
        if (page.has_more === false) return ids;
        expect(page.data).toHaveLength(limit);
        await onPage(page);
        after = page.last_id;
      }
    }

    test("gives an empty page for no stores", async () => {
      expect(await list({})).toEqual({
        object: "list",
        data: [],
        first_id: null,
        last_id: null,
        has_more: false,
      });
    });

    test("gives the newest 20 first", async () => {
      const ids = await createTied(21);
      const page = await list({});
      expect(page.data.map(({ id }: { id: string }) => id)).toEqual(ids.toReversed().slice(0, 20));
      expect(page).toMatchObject({ first_id: ids[20], last_id: ids[1], has_more: true });
      expect(page.data[0]).toEqual(await get(page.first_id));
    });

    test("gives each store once, whatever the limit, the order and the ties", async () => {
      const ids = await createTied(8);
      for (const limit of [1, 2, 3, 4, 5, 6, 7]) {
        expect(await walk("asc", limit)).toEqual(ids);
        expect(await walk("desc", limit)).toEqual(ids.toReversed());
      }
    });

    test("goes back by before, in both orders", async () => {
      const ascending = await createTied(7);
      for (const [order, ids] of [
        ["asc", ascending],
        ["desc", ascending.toReversed()],
      ] as const) {
        for (const limit of [1, 3, 6]) {
          const page = await list({ order, limit, before: ids[6] });
          expect(page.data.map(({ id }: { id: string }) => id)).toEqual(ids.slice(6 - limit, 6));
          expect(page.has_more).toBe(limit < 6);
        }
      }
    });

    test.each(["asc", "desc"])("gives each store once while others are created, order %s", async (order) => {
      const ids = await createTied(6);
      const created: string[] = [];
      const seen = await walk(order, 2, async () => created.push((await create()).id));
      expect(created.length).toBeGreaterThan(0);
      expect(seen.filter((id) => ids.includes(id)).toSorted()).toEqual(ids);
      expect(new Set(seen).size).toBe(seen.length);
    });

    test.each(["asc", "desc"])(
      "gives each store once to who deletes what it lists, order %s",
      async (order) => {
        const ids = await createSeveral(7);
        const seen = await walk(order, 3, (page) =>
          Promise.all(page.data.map(({ id }: { id: string }) => remove(id))),
        );
        expect(seen.toSorted()).toEqual(ids);
      },
    );

    test("refuses a position that never was", async () => {
      await expect(list({ after: "nowhere" })).rejects.toMatchObject({
        code: "invalid_argument",
        param: "after",
      });
      await expect(list({ before: "nowhere" })).rejects.toMatchObject({
        code: "invalid_argument",
        param: "before",
      });
    });

    test.each([
      [0, "INTEGER_BELOW_MIN_VALUE"],
      [-1, "INTEGER_BELOW_MIN_VALUE"],
      [101, "INTEGER_ABOVE_MAX_VALUE"],
    ])("refuses the limit %i", async (limit, reason) => {
      await expect(list({ limit })).rejects.toMatchObject({
        code: "invalid_argument",
        param: "limit",
        reason,
      });
    });
  });

  describe("updating", () => {
    const original = {
      name: "old",
      metadata: { a: "1", b: "2" },
      expires_after: { anchor: "last_active_at", days: 7 },
      description: "kept",
    };

    test("keeps what is not mentioned", async () => {
      const store = await create(original);
      expect(await update(store.id, {})).toEqual(store);
      expect(await update(store.id, { name: "new" })).toEqual({ ...store, name: "new" });
      expect(await update(store.id, { metadata: { c: "3" } })).toEqual({
        ...store,
        name: "new",
        metadata: { c: "3" },
      });
      expect(await get(store.id)).toEqual({ ...store, name: "new", metadata: { c: "3" } });
    });

    test("clears what is null", async () => {
      const store = await create(original);
      expect(await update(store.id, { name: null })).toEqual({ ...store, name: "" });
      const cleared = { ...store, name: "", metadata: {}, expires_after: null, expires_at: null };
      expect(await update(store.id, { metadata: null, expires_after: null })).toEqual(cleared);
      expect(await get(store.id)).toEqual(cleared);
    });

    test("counts a new expiry from the last activity", async () => {
      const store = await create();
      await pool.query("update vector_stores set last_active_at = last_active_at - interval '1 day'");
      const updated = await update(store.id, { expires_after: { anchor: "last_active_at", days: 2 } });
      expect(updated).toMatchObject({
        last_active_at: store.created_at - 86_400,
        expires_at: store.created_at + 86_400,
      });
    });

    test("refuses what creation refuses, and changes nothing", async () => {
      const store = await create(original);
      const change = { name: "new", metadata: { k: "v".repeat(513) } };
      await expect(update(store.id, change)).rejects.toMatchObject({
        code: "invalid_argument",
        param: "metadata.k",
      });
      expect(await get(store.id)).toEqual(store);
    });
  });

  test("deletes a store once", async () => {
    const store = await create();
    expect(await remove(store.id)).toEqual({ id: store.id, object: "vector_store.deleted", deleted: true });
    await expect(remove(store.id)).rejects.toMatchObject({ code: "not_found" });
    await expect(get(store.id)).rejects.toMatchObject({ code: "not_found" });
    expect((await list({})).data).toEqual([]);
  });

  test.each(["GetVectorStore", "UpdateVectorStore", "DeleteVectorStore"])(
    "%s says which store there is not",
    async (rpc) => {
      await expect(call(`VectorStoreService/${rpc}`, { vector_store_id: "vs_none" })).rejects.toMatchObject({
        code: "not_found",
        reason: "NOT_FOUND",
        param: "vector_store_id",
        message: "No vector store found with id 'vs_none'.",
      });
    },
  );
});

describe.each(protocols.filter(({ name }) => !name.startsWith("REST")))(
  "update_mask over $name",
  (protocol) => {
    const { call, ...client } = protocol.connect(server);
    afterAll(() => client[Symbol.asyncDispose]());

    const update = (id: string, change: Json): Promise<Reply> =>
      call("VectorStoreService/UpdateVectorStore", { vector_store_id: id, ...change });

    test("says what to clear, and what to keep though it is set", async () => {
      const store = await call("VectorStoreService/CreateVectorStore", { name: "old", metadata: { a: "1" } });
      const cleared = await update(store.id, { name: "not mentioned", update_mask: ["metadata"] });
      expect(cleared).toEqual({ ...store, metadata: {} });
    });

    test("means what is set when it is empty", async () => {
      const store = await call("VectorStoreService/CreateVectorStore", { name: "old", metadata: { a: "1" } });
      expect(await update(store.id, { name: "new", update_mask: [] })).toEqual({ ...store, name: "new" });
    });

    test("names only what can change", async () => {
      const store = await call("VectorStoreService/CreateVectorStore");
      await expect(update(store.id, { update_mask: ["usage_bytes"] })).rejects.toMatchObject({
        code: "invalid_argument",
        param: "update_mask",
      });
    });
  },
);
