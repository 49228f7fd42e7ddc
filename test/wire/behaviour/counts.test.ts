import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { type Json, type Reply } from "../../support/clients/client.ts";
import { protocols } from "../../support/clients/clients.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

/** A repeatable stream of integers below a bound (the generator of Numerical Recipes, 7.1). */
function randomOf(seed: number): (bound: number) => number {
  let state = seed;
  return (bound) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * bound);
  };
}

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let storeId: string;
  beforeEach(async () => {
    await pool.query("truncate vector_stores, embeddings");
    storeId = (await call("VectorStoreService/CreateVectorStore")).id;
  });

  const embeddings = (rpc: string, request: Json): Promise<Reply> =>
    call(`EmbeddingService/${rpc}`, { vector_store_id: storeId, ...request });

  test("count rows and bytes as they are, after any mix of changes at the same time", async () => {
    const random = randomOf(Number(protocol.name.length));
    const texts = ["a", "ä", "€", "🐘", "mixed ä€🐘", "\u0007\n"];
    const row = () => ({
      id: `e${random(25)}`,
      content: (texts[random(texts.length)] as string).repeat(1 + random(50)),
      embedding: [1, 2],
      metadata: { group: random(4) },
    });
    const changes = [
      () => embeddings("CreateEmbedding", row()),
      () => embeddings("BatchCreateEmbeddings", { embeddings: Array.from({ length: 1 + random(4) }, row) }),
      ...["upsert", "skip_existing"].map((mode) => () => {
        const rows = Array.from({ length: 1 + random(4) }, row);
        return embeddings("BatchCreateEmbeddings", { mode, embeddings: rows });
      }),
      () => {
        const { id, ...change } = row();
        return embeddings("UpdateEmbedding", { embedding_id: id, ...change });
      },
      () => embeddings("BatchDeleteEmbeddings", { embedding_ids: [row().id, row().id, row().id] }),
      () => embeddings("DeleteEmbedding", { embedding_id: row().id }),
      () => embeddings("PurgeEmbeddings", { filters: { type: "eq", key: "group", value: random(4) } }),
    ];
    let succeeded = 0;
    for (let round = 0; round < 6; round++) {
      const results = await Promise.allSettled(
        Array.from({ length: 8 }, () => (changes[random(changes.length)] as () => Promise<Reply>)()),
      );
      for (const result of results) {
        if (result.status === "fulfilled") succeeded++;
        else
          expect(["already_exists", "not_found", "invalid_argument"], result.reason).toContain(
            result.reason.code,
          );
      }
      const truth = await pool.query(
        "select count(*)::int as rows, coalesce(sum(octet_length(content)), 0)::int as bytes from embeddings",
      );
      const { rows, bytes } = truth.rows[0];
      expect(await call("VectorStoreService/GetVectorStore", { vector_store_id: storeId })).toMatchObject({
        usage_bytes: bytes,
        file_counts: { in_progress: 0, completed: rows, failed: 0, cancelled: 0, total: rows },
      });
    }
    expect(succeeded).toBeGreaterThan(10);
  });

  test("a store deleted while others write to it leaves nothing behind", async () => {
    for (let round = 0; round < 5; round++) {
      const { id } = await call("VectorStoreService/CreateVectorStore");
      const add = (embedding_id: string) =>
        embeddings("CreateEmbedding", {
          vector_store_id: id,
          id: embedding_id,
          content: "x",
          embedding: [1],
        });
      await add("first");
      const results = await Promise.allSettled([
        add("a"),
        embeddings("BatchCreateEmbeddings", {
          vector_store_id: id,
          embeddings: Array(20).fill({ content: "x", embedding: [1] }),
        }),
        call("VectorStoreService/DeleteVectorStore", { vector_store_id: id }),
        embeddings("DeleteEmbedding", { vector_store_id: id, embedding_id: "first" }),
        add("b"),
      ]);
      expect(results[2]).toMatchObject({ status: "fulfilled" });
      for (const result of results) {
        if (result.status === "rejected")
          expect(result.reason).toMatchObject({ code: "not_found", reason: "NOT_FOUND" });
      }
      expect((await pool.query("select * from embeddings where vector_store_id = $1", [id])).rows).toEqual(
        [],
      );
    }
  });
});
