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
  // Over REST the body is the embedding, and the mode a parameter of the query.
  const create = (name: "upsert" | "skip_existing", embedding: Json) =>
    embeddings("CreateEmbedding", { ...embedding, mode: name });
  const batch = (name: "upsert" | "skip_existing", ...inputs: Json[]) =>
    embeddings("BatchCreateEmbeddings", { embeddings: inputs, mode: name, include_content: true });
  const contents = async () =>
    Object.fromEntries(
      (await embeddings("ListEmbeddings", { order: "asc" })).data.map(({ id, content }: Reply) => [
        id,
        content,
      ]),
    );
  const store = (): Promise<Reply> => call("VectorStoreService/GetVectorStore", { vector_store_id: storeId });
  const row = (id: string, content: string, more: Json = {}) => ({ id, content, embedding: [1, 2], ...more });

  test("one embedding is replaced, or kept and returned", async () => {
    const first = await create("upsert", row("a", "first", { metadata: { n: 1 } }));
    expect(await create("skip_existing", row("a", "ignored"))).toEqual(first);
    expect(await create("upsert", row("a", "2nd"))).toMatchObject({ id: "a", content: "2nd", metadata: {} });
    expect(await contents()).toEqual({ a: "2nd" });
    expect(await store()).toMatchObject({ embedding_count: 1, usage_bytes: 3, file_counts: { total: 1 } });
  });

  test("a batch replaces those that exist and adds the others", async () => {
    await batch("upsert", row("a", "a"), row("b", "b"));
    const { data, skipped_ids } = await batch("upsert", row("c", "ccc"), row("a", "aaaa"));
    expect(data.map(({ id, content }: Reply) => [id, content])).toEqual([
      ["c", "ccc"],
      ["a", "aaaa"],
    ]);
    expect(skipped_ids).toEqual([]);
    expect(await contents()).toEqual({ a: "aaaa", b: "b", c: "ccc" });
    expect(await store()).toMatchObject({ embedding_count: 3, usage_bytes: 8, file_counts: { total: 3 } });
  });

  test("a batch skips those that exist, and says which", async () => {
    await batch("skip_existing", row("a", "a"));
    const { data, skipped_ids } = await batch("skip_existing", row("a", "x"), row("c", "cc"), row("b", "b"));
    expect(data.map(({ id, content }: Reply) => [id, content])).toEqual([
      ["c", "cc"],
      ["b", "b"],
    ]);
    expect(skipped_ids).toEqual(["a"]);
    const again = await batch("skip_existing", row("b", "x"));
    expect(again).toMatchObject({ data: [], skipped_ids: ["b"] });
    expect(await contents()).toEqual({ a: "a", b: "b", c: "cc" });
    expect(await store()).toMatchObject({ embedding_count: 3, usage_bytes: 4 });
  });

  test("texts without a vector are embedded", async () => {
    await batch("upsert", { id: "a", content: "a quick brown fox" });
    await batch("upsert", { id: "b", content: "lazy dogs" }, { id: "a", content: "herons in the reed" });
    const found = await call("SearchService/Search", { vector_store_id: storeId, query: "herons" });
    expect(found.data[0].id).toBe("a");
  });

  test("a batch that is refused changes nothing", async () => {
    await batch("upsert", row("a", "a"));
    const refused = batch("upsert", row("a", "b"), { ...row("b", "b"), embedding: [1, 2, 3] });
    const dimensions = { reason: "DIMENSION_MISMATCH", param: "embeddings[1].embedding" };
    await expect(refused).rejects.toMatchObject(dimensions);
    const twice = batch("skip_existing", row("c", "1"), row("c", "2"));
    await expect(twice).rejects.toMatchObject({ code: "invalid_argument", param: "embeddings[1].id" });
    expect(await contents()).toEqual({ a: "a" });
  });

  test("writes of the same ids at the same time are counted rightly", async () => {
    const writes = Array.from({ length: 12 }, (_, n) => {
      const ids = n % 2 === 0 ? ["a", "b", "c", "d"] : ["d", "c", "b", "a"];
      return batch(n % 3 === 0 ? "skip_existing" : "upsert", ...ids.map((id) => row(id, "x".repeat(n + 1))));
    });
    await Promise.all(writes);
    const bytes = Object.values<string>(await contents()).reduce((sum, { length }) => sum + length, 0);
    expect(await store()).toMatchObject({
      embedding_count: 4,
      usage_bytes: bytes,
      file_counts: { total: 4 },
    });
  });
});
