// A search of a store that this process knows takes it to be as it was. Whatever another process did to it meanwhile,
// the caller must not notice.
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { promoteStore } from "../../../src/indexes/worker.ts";
import { deleteEmbeddings } from "../../../src/storage/embeddings.ts";
import { deleteStore } from "../../../src/storage/stores.ts";
import { type Json, type Reply } from "../../support/clients/client.ts";
import { embedderAt } from "../../support/servers/embedder.ts";
import { startEmbeddingServer } from "../../support/servers/embedding-server.ts";
import { TEST_INDEXES } from "../../support/stores/index-store.ts";
import { restOverHttp1 } from "../../support/clients/rest-client.ts";
import { startServer } from "../../support/servers/server.ts";

const provider = await startEmbeddingServer({ dimensions: 2 });
const server = await startServer({ embedder: embedderAt(provider.url), search: { queryCacheBytes: 0 } });
const { pool, tables } = server.database;
const client = restOverHttp1.connect(server);
const { call } = client;
afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  await provider[Symbol.asyncDispose]();
});

const search = (request: Json): Promise<Reply> =>
  call("SearchService/Search", { vector_store_id: "known", ...request });
const idsOf = ({ data }: Reply) => data.map(({ id }: Reply) => id);

async function create(embeddings: Json[]): Promise<void> {
  await call("VectorStoreService/CreateVectorStore", { id: "known" });
  await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: "known", embeddings });
}

/** As another process does. */
async function remove(): Promise<void> {
  await deleteStore(pool, tables, "known");
  await deleteEmbeddings(pool, tables, "known");
}

describe("a store that was searched before", () => {
  beforeEach(async () => {
    await remove();
    await create([
      { id: "a", content: "grey whales" },
      { id: "b", content: "apple pie" },
    ]);
    expect(idsOf(await search({ query: "whales" })).toSorted()).toEqual(["a", "b"]);
  });

  test("and then deleted is not found", async () => {
    await remove();
    for (const request of [{ query: "whales" }, { embedding: [1, 0] }]) {
      await expect(search(request)).rejects.toMatchObject({
        code: "not_found",
        message: "No vector store found with id 'known'.",
      });
    }
  });

  test("and then expired says so", async () => {
    await pool.query("update vector_stores set expires_at = now() where id = 'known'");
    await expect(search({ query: "whales" })).rejects.toMatchObject({ reason: "VECTOR_STORE_EXPIRED" });
  });

  test("and made anew with other dimensions takes vectors of these", async () => {
    await remove();
    await create([{ id: "new", content: "x", embedding: [1, 2, 3] }]);
    expect(idsOf(await search({ embedding: [1, 0, 0] }))).toEqual(["new"]);
    await expect(search({ embedding: [1, 0] })).rejects.toMatchObject({ reason: "DIMENSION_MISMATCH" });
    await expect(search({ query: "whales" })).rejects.toMatchObject({ reason: "DIMENSION_MISMATCH" });
  });

  test("and made anew with vectors of the caller is not searched by what it was", async () => {
    await remove();
    await create([{ id: "new", content: "x", embedding: [1, 2] }]);
    expect(idsOf(await search({ query: "whales" }))).toEqual(["new"]);
  });

  test("and embedded anew by another model refuses texts", async () => {
    await pool.query("update vector_stores set embedding_model = 'other' where id = 'known'");
    await expect(search({ query: "whales" })).rejects.toMatchObject({ reason: "EMBEDDING_MODEL_MISMATCH" });
    expect(idsOf(await search({ embedding: [1, 0] })).toSorted()).toEqual(["a", "b"]);
  });

  test("and then given an index is searched by it, and exactly once that is gone", async () => {
    const before = await search({ query: "whales", max_num_results: 2 });
    await promoteStore(server.database, "known", TEST_INDEXES);
    const after = await search({ query: "whales", max_num_results: 2 });
    expect(after.data).toEqual(before.data);
    expect(after.statistics).toMatchObject({ method: "index", complete: true });
    await pool.query("update vector_stores set index_precision = null where id = 'known'");
    const exact = await search({ query: "whales", max_num_results: 2 });
    expect(exact.data).toEqual(before.data);
    expect(exact.statistics).toMatchObject({ method: "exact", complete: true });
  });

  test("and emptied gives nothing, and what was added since", async () => {
    for (const embedding_id of ["a", "b"]) {
      await call("EmbeddingService/DeleteEmbedding", { vector_store_id: "known", embedding_id });
    }
    expect(idsOf(await search({ query: "whales" }))).toEqual([]);
    const added = { id: "c", content: "grey whales" };
    await call("EmbeddingService/CreateEmbedding", { vector_store_id: "known", ...added });
    expect(idsOf(await search({ query: "whales" }))).toEqual(["c"]);
  });

  test("asks the provider once, also when that fails", async () => {
    const before = provider.requests.length;
    provider.next({ status: 400, body: { error: { message: "no" } } });
    await expect(search({ query: "whales" })).rejects.toMatchObject({ reason: "EMBEDDING_PROVIDER_REFUSED" });
    expect(provider.requests).toHaveLength(before + 1);
    await pool.query("update vector_stores set language = 'german' where id = 'known'");
    await search({ query: "whales" });
    expect(provider.requests).toHaveLength(before + 2);
  });
});

test("a store that is unknown is not found before anything is embedded", async () => {
  const before = provider.requests.length;
  await expect(
    call("SearchService/Search", { vector_store_id: "vs_none", query: "a" }),
  ).rejects.toMatchObject({ code: "not_found" });
  expect(provider.requests).toHaveLength(before);
});

test("searches find every row while the store is given a table and an index", async () => {
  const id = "moving";
  await call("VectorStoreService/CreateVectorStore", { id });
  const embeddings = Array.from({ length: 40 }, (_, row) => ({
    id: `r${row}`,
    content: "x",
    embedding: [1, row],
  }));
  await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: id, embeddings });
  const methods = new Set<string>();
  let isMoving = true;
  const moved = promoteStore(server.database, id, TEST_INDEXES).finally(() => (isMoving = false));
  const searchUntilMoved = async () => {
    for (let last = false; !last;) {
      last = !isMoving;
      const reply = await call("SearchService/Search", {
        vector_store_id: id,
        embedding: [1, 0],
        max_num_results: 50,
      });
      expect(new Set(idsOf(reply)).size).toBe(40);
      methods.add(reply.statistics.method);
    }
  };
  await Promise.all([moved, searchUntilMoved(), searchUntilMoved()]);
  // Fewer than were asked for: compared one by one, as before.
  expect([...methods]).toEqual(["exact"]);
  const reply = await call("SearchService/Search", { vector_store_id: id, embedding: [1, 0] });
  expect(reply).toMatchObject({ statistics: { method: "index", complete: true } });
});
