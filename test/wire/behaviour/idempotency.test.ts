import { randomUUID } from "node:crypto";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import type { Json, Reply } from "../../support/clients/client.ts";
import { protocols } from "../../support/clients/clients.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

const REFUSAL = { code: "already_exists", reason: "IDEMPOTENCY_CONFLICT", param: "Idempotency-Key" };

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let store: string;
  let key: string;
  beforeEach(async () => {
    store = (await call("VectorStoreService/CreateVectorStore", {})).id;
    key = `retry of ${randomUUID()}`;
  });

  /** Calls with the key of the test. */
  const keyed = (rpc: string, request: Json, header = key): Promise<Reply> =>
    call(rpc, request, { headers: { "idempotency-key": header } });
  const addOne = (row: Json) => keyed("EmbeddingService/CreateEmbedding", { vector_store_id: store, ...row });
  const addBatch = (embeddings: Json[]) =>
    keyed("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: store, embeddings });

  const expectRows = async (count: number) => {
    const { rows } = await pool.query<{ count: number }>(
      "select count(*)::int from embeddings where vector_store_id = $1",
      [store],
    );
    expect(rows[0]?.count).toBe(count);
    const { file_counts } = await call("VectorStoreService/GetVectorStore", { vector_store_id: store });
    expect(file_counts.total).toBe(count);
  };

  test("an embedding sent twice is stored once, and answered alike", async () => {
    for (const row of [
      { content: "né", metadata: { n: 1.5, tags: ["a", { b: null }] }, embedding: [0.1, -0, 3] },
      { content: "né", embedding: [1, 2, 3] },
    ]) {
      key = randomUUID();
      const first = await addOne(row);
      expect(first.id).toMatch(/^emb_[0-9a-f]{12}8[0-9a-f]{3}[89ab][0-9a-f]{15}$/);
      expect(await addOne(row)).toEqual(first);
    }
    await expectRows(2);
  });

  test("texts to be embedded are embedded and stored once", async () => {
    const rows = [
      { content: "one" },
      { content: "two", metadata: { k: "v" } },
      { id: "own", content: "three" },
    ];
    const first = await addBatch(rows);
    const again = await addBatch(rows);
    expect(again.data).toEqual(first.data);
    expect(again.data[2].id).toBe("own");
    await expectRows(3);
  });

  test("two at the same time store one, and both succeed", async () => {
    const rows = Array.from({ length: 20 }, (_, index) => ({
      content: `text ${index}`,
      embedding: [1, index],
    }));
    const replies = await Promise.all([addBatch(rows), addBatch(rows), addBatch(rows)]);
    for (const { data } of replies) expect(data).toEqual(replies[0]?.data);
    await expectRows(20);
  });

  test("a key used for something else is refused, and stores nothing", async () => {
    await addOne({ content: "one", metadata: { k: 1 }, embedding: [1, 2] });
    for (const change of [
      { content: "two" },
      { metadata: { k: "1" } },
      { embedding: [1, 2.5] },
      { created_at: 5 },
    ]) {
      const row = { content: "one", metadata: { k: 1 }, embedding: [1, 2], ...change };
      await expect(addOne(row)).rejects.toMatchObject(REFUSAL);
    }
    await expect(
      addBatch([
        { content: "one", metadata: { k: 1 }, embedding: [1, 2] },
        { content: "two", embedding: [1, 2] },
      ]),
    ).rejects.toMatchObject(REFUSAL);
    await expectRows(1);
  });

  test("keys stand for requests of one store, and of one kind", async () => {
    await addOne({ content: "one", embedding: [1] });
    const first = store;
    store = (await keyed("VectorStoreService/CreateVectorStore", {})).id;
    expect(store).not.toBe(first);
    await addOne({ content: "other", embedding: [1, 2] });
    await expectRows(1);
  });

  test("a store created twice is one, unless it was to be another", async () => {
    const asked = {
      name: "n",
      metadata: { a: "b", c: "d" },
      expires_after: { anchor: "last_active_at", days: 3 },
    };
    const first = await keyed("VectorStoreService/CreateVectorStore", asked);
    await call("EmbeddingService/CreateEmbedding", {
      vector_store_id: first.id,
      content: "x",
      embedding: [1],
    });
    const again = await keyed("VectorStoreService/CreateVectorStore", asked);
    expect(again).toMatchObject({
      ...asked,
      id: first.id,
      created_at: first.created_at,
      file_counts: { total: 1 },
    });
    for (const change of [
      { name: "other" },
      { metadata: { a: "b" } },
      { expires_after: null },
      { dimensions: 7 },
    ]) {
      await expect(
        keyed("VectorStoreService/CreateVectorStore", { ...asked, ...change }),
      ).rejects.toMatchObject(REFUSAL);
    }
  });

  test("without a key, equal requests are two", async () => {
    for (let i = 0; i < 2; i++)
      await call("EmbeddingService/CreateEmbedding", {
        vector_store_id: store,
        content: "x",
        embedding: [1],
      });
    await expectRows(2);
  });

  test("a key that is too long is refused", async () => {
    await expect(keyed("VectorStoreService/CreateVectorStore", {}, "k".repeat(256))).rejects.toMatchObject({
      code: "invalid_argument",
      param: "Idempotency-Key",
    });
    await keyed("VectorStoreService/CreateVectorStore", {}, "k".repeat(255));
  });
});

test("over REST a refusal says that trying again is of no use", async () => {
  const create = (name: string) =>
    fetch(`${server.url}/v1/vector_stores`, {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": "rest" },
      body: JSON.stringify({ name }),
    });
  await create("one");
  const refused = await create("two");
  expect(refused.status).toBe(409);
  expect(refused.headers.get("x-should-retry")).toBe("false");
});
