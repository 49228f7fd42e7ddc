import { afterAll, describe, expect, test, vi } from "vitest";
import type { Json, Protocol, Reply } from "../../support/clients/client.ts";
import { protocols } from "../../support/clients/clients.ts";
import { grpcByGrpcJs } from "../../support/clients/grpc-client.ts";
import { restOverHttp1 } from "../../support/clients/rest-client.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer({ indexes: { isWorking: true, thresholdBytes: 0 } });
afterAll(() => server[Symbol.asyncDispose]());

/** Calls over a protocol. */
function connect(protocol: Protocol) {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());
  const createStore = async (request: Json = {}): Promise<string> =>
    (await call("VectorStoreService/CreateVectorStore", request)).id;
  const update = (id: string, request: Json): Promise<Reply> =>
    call("IndexService/UpdateIndex", { vector_store_id: id, ...request });
  const get = (id: string): Promise<Reply> => call("IndexService/GetIndex", { vector_store_id: id });
  const untilState = (id: string, state: string): Promise<Reply> =>
    vi.waitFor(
      async () => {
        const index = await get(id);
        expect(index.state).toBe(state);
        return index;
      },
      { timeout: 60_000, interval: 20 },
    );
  return { call, createStore, update, get, untilState };
}

describe.each(protocols)("over $name", (protocol) => {
  const { call, createStore, update, get, untilState } = connect(protocol);
  const refusal = (result: Promise<Reply>): Promise<{ code: string; reason: string; param: string }> =>
    result.then(
      () => expect.unreachable(),
      ({ code, reason, param }) => ({ code, reason, param }),
    );

  test("a new store has no index", async () => {
    const id = await createStore();
    expect(await get(id)).toEqual({
      object: "vector_store.index",
      vector_store_id: id,
      policy: "auto",
      state: "none",
      progress: null,
      rows: 0,
      index_bytes: 0,
      table_bytes: 0,
      table: null,
      method: null,
      precision: null,
      m: null,
      ef_construction: null,
      built_at: null,
      last_error: null,
      requested: { precision: null, m: 16, ef_construction: 128 },
      attribute_indexes: [],
      blocked_by: [],
      target_recall: 0.98,
      recall: null,
      filtered_recall: null,
      other_index_bytes: 0,
      bytes_per_row: null,
      keyword_index: true,
      work: null,
      nodes: [],
    });
  });

  test("the recall that is asked is kept when absent, and reset by null", async () => {
    const id = await createStore();
    expect(await update(id, { target_recall: 0.95 })).toMatchObject({ target_recall: 0.95 });
    expect(await update(id, { m: 8 })).toMatchObject({ target_recall: 0.95 });
    expect(await update(id, { target_recall: null })).toMatchObject({ target_recall: 0.98 });
    expect((await get(id)).target_recall).toBe(0.98);
    for (const target_recall of [0.49, 1, 2])
      expect(await refusal(update(id, { target_recall }))).toMatchObject({
        reason: "INVALID_VALUE",
        param: "target_recall",
      });
  });

  test("attributes that are declared are indexed once the store has a table, and no longer when they are not", async () => {
    const id = await createStore({ dimensions: 2 });
    const attributes = [
      { key: "year", type: "number" },
      { key: 'it\'s "so"', type: "string" },
    ];
    const states = async () => (await get(id)).attribute_indexes as { state: string; bytes: number }[];
    const declared = await update(id, { indexed_attributes: attributes });
    expect(declared.attribute_indexes).toEqual(
      attributes.map((attribute) => ({ ...attribute, state: "waiting", bytes: 0, automatic: false })),
    );
    expect((await update(id, { policy: "always" })).attribute_indexes).toHaveLength(2);
    await vi.waitFor(
      async () => expect((await states()).map(({ state }) => state)).toEqual(["ready", "ready"]),
      {
        timeout: 60_000,
        interval: 20,
      },
    );
    for (const { bytes } of await states()) expect(bytes).toBeGreaterThan(0);
    expect(await get(id)).toMatchObject({ state: "ready", last_error: null });
    const cleared = await update(id, { indexed_attributes: null });
    expect(cleared.attribute_indexes).toEqual([]);
  });

  test.each<[Json[], string, string]>([
    [[{ type: "number" }], "MISSING_REQUIRED_PARAMETER", "indexed_attributes[0].key"],
    [[{ key: "a" }], "MISSING_REQUIRED_PARAMETER", "indexed_attributes[0].type"],
    [[{ key: "a".repeat(257), type: "string" }], "STRING_ABOVE_MAX_LENGTH", "indexed_attributes[0].key"],
    [
      Array.from({ length: 2 }, () => ({ key: "a", type: "string" })),
      "INVALID_VALUE",
      "indexed_attributes[1]",
    ],
  ])("refuses the attributes %j", async (indexed_attributes, reason, param) => {
    const id = await createStore();
    expect(await refusal(update(id, { indexed_attributes }))).toMatchObject({ reason, param });
  });

  test("what is requested is shown before there is an index, kept when absent, and cleared by null", async () => {
    const id = await createStore();
    const requested = async (change: Json) => {
      const index = await update(id, change);
      expect(index).toMatchObject({ precision: null, m: null, ef_construction: null });
      expect((await get(id)).requested).toEqual(index.requested);
      return [index.policy, index.requested] as unknown;
    };
    const settings = { precision: "binary", m: 32, ef_construction: 64 };
    expect(await requested({ policy: "never", ...settings })).toEqual(["never", settings]);
    expect(await requested({ m: 8 })).toEqual(["never", { ...settings, m: 8 }]);
    expect(await requested({ precision: null })).toEqual(["never", { ...settings, precision: null, m: 8 }]);
    expect(await requested({ policy: null, m: null, ef_construction: null })).toEqual([
      "auto",
      { precision: null, m: 16, ef_construction: 128 },
    ]);
  });

  test("an index that is asked for is made, and a store says so", async () => {
    const id = await createStore({ language: "german", precision: "binary" });
    const store = await call("VectorStoreService/GetVectorStore", { vector_store_id: id });
    expect(store).toMatchObject({
      index_state: "none",
      precision: "binary",
      language: "german",
      embedding_count: 0,
    });
    await call("EmbeddingService/BatchCreateEmbeddings", {
      vector_store_id: id,
      embeddings: Array.from({ length: 20 }, (_, n) => ({ content: `text ${n}`, embedding: [1, n] })),
    });
    const asked = await update(id, { policy: "always", m: 8, ef_construction: 32 });
    expect(asked).toMatchObject({ policy: "always", rows: 20 });
    const index = await untilState(id, "ready");
    expect(index).toMatchObject({
      method: "hnsw",
      precision: "binary",
      m: 8,
      ef_construction: 32,
      requested: { precision: "binary", m: 8, ef_construction: 32 },
      table: expect.stringMatching(/^embeddings_\d+$/),
      last_error: null,
    });
    expect(index.index_bytes).toBeGreaterThan(0);
    expect(index.table_bytes).toBeGreaterThan(index.index_bytes);
    expect(index.other_index_bytes).toBeGreaterThan(0);
    expect(index.other_index_bytes).toBeLessThan(index.table_bytes);
    const bytes = (index.index_bytes as number) + (index.table_bytes as number);
    expect(index.bytes_per_row).toBe(Math.round(bytes / (index.rows as number)));
    expect(Math.abs(index.built_at - Date.now() / 1000)).toBeLessThan(60);
    const ready = await call("VectorStoreService/GetVectorStore", { vector_store_id: id });
    expect(ready).toMatchObject({ index_state: "ready", embedding_count: 20 });
  });

  test.each<[string, Json, string, string]>([
    ["an m that is too small", { m: 1 }, "INTEGER_BELOW_MIN_VALUE", "m"],
    ["an m that is too large", { m: 101 }, "INTEGER_ABOVE_MAX_VALUE", "m"],
    [
      "an ef_construction that is too large",
      { ef_construction: 1001 },
      "INTEGER_ABOVE_MAX_VALUE",
      "ef_construction",
    ],
    ["an ef_construction below 2 m", { m: 40, ef_construction: 79 }, "INVALID_VALUE", "ef_construction"],
    ["an m beyond half of ef_construction as it is", { m: 65 }, "INVALID_VALUE", "ef_construction"],
    ["a precision for fewer dimensions", { precision: "float32" }, "INVALID_VALUE", "precision"],
  ])("%s is refused, and nothing is changed", async (_, change, reason, param) => {
    const id = await createStore({ dimensions: 2001 });
    expect(await refusal(update(id, { policy: "always", ...change }))).toEqual({
      code: "invalid_argument",
      reason,
      param,
    });
    expect(await get(id)).toMatchObject({ policy: "auto", state: "none" });
  });

  test("a store that is to have an impossible precision or language is refused", async () => {
    expect(await refusal(createStore({ dimensions: 4001, precision: "float16" }))).toMatchObject({
      reason: "INVALID_VALUE",
      param: "precision",
    });
    for (const language of ["klingon", "a'b", ""])
      expect(await refusal(createStore({ language }))).toMatchObject({
        reason: "INVALID_VALUE",
        param: "language",
      });
    expect(await refusal(createStore({ language: "x".repeat(64) }))).toMatchObject({
      reason: "STRING_ABOVE_MAX_LENGTH",
      param: "language",
    });
  });

  test("a store that wants no index of words has none, and finds words all the same", async () => {
    const id = await createStore({ dimensions: 2 });
    expect(await update(id, { keyword_index: false })).toMatchObject({ keyword_index: false });
    expect(await update(id, { keyword_index: null })).toMatchObject({ keyword_index: true });
    await update(id, { keyword_index: false, policy: "always" });
    await call("EmbeddingService/BatchCreateEmbeddings", {
      vector_store_id: id,
      embeddings: Array.from({ length: 20 }, (_, n) => ({ content: `text of ship${n}`, embedding: [1, n] })),
    });
    const { table } = await untilState(id, "ready");
    const { rows } = await server.database.pool.query(
      "select attname from pg_attribute where attrelid = $1::regclass and attname = 'content_tsvector'",
      [table],
    );
    expect(rows).toEqual([]);
    const hybrid_search = { embedding_weight: 0, text_weight: 1 };
    const search = { vector_store_id: id, query: "ship7", ranking_options: { hybrid_search } };
    const found = await call("SearchService/Search", search);
    expect((found.data as Json[]).map(({ content }) => content)).toEqual([
      [{ type: "text", text: "text of ship7" }],
    ]);
    expect(await refusal(update(id, { keyword_index: true }))).toMatchObject({
      reason: "TABLE_EXISTS",
      param: "keyword_index",
    });
    expect(await update(id, { keyword_index: false, m: 8 })).toMatchObject({ keyword_index: false });
  });

  test("there is no index of a store that is not there, and none to build anew where there is none", async () => {
    const missing = { code: "not_found", reason: "NOT_FOUND", param: "vector_store_id" };
    expect(await refusal(get("nope"))).toEqual(missing);
    expect(await refusal(update("nope", { policy: "always" }))).toEqual(missing);
    const id = await createStore();
    expect(await refusal(call("IndexService/RebuildIndex", { vector_store_id: id }))).toMatchObject({
      reason: "INDEX_MISSING",
      param: "vector_store_id",
    });
  });
});

describe("over gRPC, where the mask is the caller's", () => {
  const { createStore, update } = connect(grpcByGrpcJs);

  test("an empty mask changes the fields that are set, another one those that it names", async () => {
    const id = await createStore();
    const asked = { precision: "binary", m: 8, ef_construction: 64 };
    expect((await update(id, { ...asked, update_mask: [] })).requested).toEqual(asked);
    expect((await update(id, { m: 9, update_mask: ["precision"] })).requested).toEqual({
      ...asked,
      precision: null,
    });
  });

  test("a mask with another field is refused", async () => {
    const refused = update(await createStore(), { m: 8, update_mask: ["m", "rows"] });
    await expect(refused).rejects.toMatchObject({ code: "invalid_argument", param: "update_mask" });
  });
});

describe.each([restOverHttp1, grpcByGrpcJs])("over $name", (protocol) => {
  const { call, createStore, update, get, untilState } = connect(protocol);

  test("progress is the part of the rows that are copied", async () => {
    const id = await createStore({ dimensions: 2 });
    const { pool } = server.database;
    await pool.query("update vector_stores set embedding_count = 8, index_state = 'moving' where id = $1", [
      id,
    ]);
    await pool.query(
      "insert into pgquiver_indexes (vector_store_id, phase, copied_rows, due) values ($1, 'copying', 2, false)",
      [id],
    );
    expect(await get(id)).toMatchObject({ state: "moving", progress: 0.25, rows: 8 });
  });

  test("an index is replaced, built anew, and forbidden, and the store is read and written all the time", async () => {
    const id = await createStore({ dimensions: 2 });
    await update(id, { policy: "always" });
    const first = await untilState(id, "ready");
    expect(first).toMatchObject({ precision: "float16", m: 16, ef_construction: 128, rows: 0 });
    const add = (key: string) =>
      call("EmbeddingService/CreateEmbedding", {
        vector_store_id: id,
        id: key,
        content: "x",
        embedding: [1, 2],
      });
    await add("a");
    await update(id, { precision: "float32" });
    await vi.waitFor(async () => expect((await get(id)).precision).toBe("float32"), { timeout: 60_000 });
    await add("b");
    expect((await update(id, { precision: null })).requested.precision).toBeNull();
    await vi.waitFor(async () => expect((await get(id)).precision).toBe("float16"), { timeout: 60_000 });
    expect((await call("IndexService/RebuildIndex", { vector_store_id: id })).state).toBe("ready");
    await add("c");
    await update(id, { policy: "never" });
    expect(await untilState(id, "none")).toMatchObject({ policy: "never", table: first.table, rows: 3 });
    await vi.waitFor(
      async () => expect(await get(id)).toMatchObject({ method: null, index_bytes: 0 }),
      60_000,
    );
    const { data } = await call("EmbeddingService/ListEmbeddings", { vector_store_id: id, order: "asc" });
    expect(data.map((embedding: Reply) => embedding.id)).toEqual(["a", "b", "c"]);
    await call("EmbeddingService/DeleteEmbedding", { vector_store_id: id, embedding_id: "b" });
    await call("EmbeddingService/PurgeEmbeddings", {
      vector_store_id: id,
      filters: { type: "ne", key: "k", value: 1 },
    });
    expect((await get(id)).rows).toBe(0);
    expect(await call("VectorStoreService/DeleteVectorStore", { vector_store_id: id })).toMatchObject({
      deleted: true,
    });
    expect((await server.database.pool.query("select to_regclass($1) as found", [first.table])).rows).toEqual(
      [{ found: null }],
    );
  });
});
