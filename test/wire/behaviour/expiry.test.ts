import { afterAll, beforeEach, describe, expect, test, vi } from "vitest";
import { type Json, type Reply } from "../../support/clients/client.ts";
import { protocols } from "../../support/clients/clients.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

const DAY_SECONDS = 86_400;

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let id: string;
  beforeEach(async () => {
    const expiresAfter = { anchor: "last_active_at", days: 2 };
    id = (await call("VectorStoreService/CreateVectorStore", { expires_after: expiresAfter })).id;
    await call("EmbeddingService/CreateEmbedding", {
      vector_store_id: id,
      id: "one",
      content: "x",
      embedding: [1],
    });
  });

  /** Moves the store into the past. */
  const age = async (days: number) => {
    await pool.query(
      `update vector_stores set last_active_at = last_active_at - $2 * interval '1 day', expires_at = expires_at - $2 * interval '1 day'
       where id = $1`,
      [id, days],
    );
  };
  const get = (): Promise<Reply> => call("VectorStoreService/GetVectorStore", { vector_store_id: id });

  /** Reads the store when its activity has been noted, which no search waits for. */
  const getActiveSince = (seconds: number): Promise<Reply> =>
    vi.waitFor(async () => {
      const store = await get();
      expect(store.last_active_at).toBeGreaterThanOrEqual(seconds);
      return store;
    }, 60_000);

  const uses: [string, Json][] = [
    ["SearchService/Search", { embedding: [1] }],
    ["VectorStoreService/UpdateVectorStore", { name: "new" }],
    ["EmbeddingService/CreateEmbedding", { content: "y", embedding: [1] }],
    ["EmbeddingService/BatchCreateEmbeddings", { embeddings: [{ content: "y", embedding: [1] }] }],
  ];
  const changes: [string, Json][] = [
    ["VectorStoreFileService/CreateVectorStoreFile", { file_id: "file-1" }],
    ["VectorStoreFileService/CreateVectorStoreFileBatch", { file_ids: ["file-1"] }],
    ["VectorStoreFileService/UpdateVectorStoreFile", { file_id: "file-1", attributes: {} }],
    ["IndexService/UpdateIndex", { policy: "never" }],
    ["IndexService/RebuildIndex", {}],
    ["VectorStoreService/ReembedVectorStore", {}],
  ];
  test.each([...uses, ...changes])("an expired store refuses %s", async (rpc, request) => {
    await age(2);
    await expect(call(rpc, { vector_store_id: id, ...request })).rejects.toMatchObject({
      code: "failed_precondition",
      reason: "VECTOR_STORE_EXPIRED",
      param: "vector_store_id",
      message: `Vector store '${id}' has expired.`,
    });
    expect(await get()).toMatchObject({ name: "", status: "expired", file_counts: { total: 1 } });
  });

  test("an expired store can be read and deleted", async () => {
    await age(2);
    const store = await get();
    expect(store).toMatchObject({ status: "expired", expires_after: { anchor: "last_active_at", days: 2 } });
    expect(store.expires_at).toBeLessThanOrEqual(Date.now() / 1000);
    const listed = await call("VectorStoreService/ListVectorStores", { limit: 100 });
    expect(listed.data).toContainEqual(store);
    expect((await call("EmbeddingService/ListEmbeddings", { vector_store_id: id })).data).toHaveLength(1);
    await call("VectorStoreService/DeleteVectorStore", { vector_store_id: id });
    await expect(get()).rejects.toMatchObject({ code: "not_found" });
  });

  test.each(uses.filter(([rpc]) => rpc !== "VectorStoreService/UpdateVectorStore"))(
    "%s puts the expiry off",
    async (rpc, request) => {
      await age(1);
      const before = await get();
      await call(rpc, { vector_store_id: id, ...request });
      const after = await getActiveSince(before.last_active_at + DAY_SECONDS);
      expect(after.status).toBe("completed");
      expect(after.expires_at).toBe(after.last_active_at + 2 * DAY_SECONDS);
    },
  );

  test("a store without expiry only notes when it was used", async () => {
    await call("VectorStoreService/UpdateVectorStore", { vector_store_id: id, expires_after: null });
    await age(400);
    const before = await get();
    expect(before).toMatchObject({ status: "completed", expires_at: null });
    await call("SearchService/Search", { vector_store_id: id, embedding: [1] });
    const after = await getActiveSince(before.last_active_at + 400 * DAY_SECONDS);
    expect(after.expires_at).toBeNull();
  });
});
