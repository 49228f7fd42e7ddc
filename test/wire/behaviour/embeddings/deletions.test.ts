import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { type Json, type Reply } from "../../../support/clients/client.ts";
import { protocols } from "../../../support/clients/clients.ts";
import { startServer } from "../../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

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
  const store = (): Promise<Reply> => call("VectorStoreService/GetVectorStore", { vector_store_id: storeId });

  test("embeddings are deleted by id, and the reply says which there were", async () => {
    const inputs = ["a", "b", "c", "d"].map((id) => ({ id, content: "xä", embedding: [1] }));
    await embeddings("BatchCreateEmbeddings", { embeddings: inputs });
    const embedding_ids = ["d", "none", "a", "a", "\u0000"];
    expect(await embeddings("BatchDeleteEmbeddings", { embedding_ids })).toEqual({
      object: "embedding.batch_deleted",
      deleted_ids: ["d", "a"],
    });
    const { data } = await embeddings("ListEmbeddings", { order: "asc" });
    expect(data.map(({ id }: Reply) => id)).toEqual(["b", "c"]);
    expect(await store()).toMatchObject({ usage_bytes: 6, file_counts: { completed: 2, total: 2 } });
    const again = await embeddings("BatchDeleteEmbeddings", { embedding_ids });
    expect(again.deleted_ids).toEqual([]);
  });

  test.each([0, 1001])("%d ids are refused", async (count) => {
    const embedding_ids = Array.from({ length: count }, (_, index) => `e${index}`);
    await expect(embeddings("BatchDeleteEmbeddings", { embedding_ids })).rejects.toMatchObject({
      code: "invalid_argument",
      param: "embedding_ids",
    });
  });
});
