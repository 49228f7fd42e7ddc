import { afterAll, expect, test } from "vitest";
import { jsonClient } from "../support/clients/json.ts";
import { openTestDatabase } from "../support/databases/database.ts";
import { embedderAt } from "../support/servers/embedder.ts";
import { startEmbeddingServer } from "../support/servers/embedding-server.ts";
import { startServer } from "../support/servers/server.ts";
import { findIndex, findLeftovers } from "../support/stores/index-store.ts";

/** A store of vectors of two dimensions, which is to come to a model of 16. */
const database = await openTestDatabase();
const provider = await startEmbeddingServer({ dimensions: 16 });
const embedder = embedderAt(provider.url, { model: "new", dimensions: 16 });
const server = await startServer({ database, embedder, indexes: { isWorking: true }, indexPollMs: 20 });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await provider.stop();
  await database.close();
});
const send = jsonClient(server.url);

test("a store that gets its table on a worker meanwhile keeps its vectors, and the job says why", async () => {
  const path = "/v1/vector_stores/s";
  await send("POST", "/v1/vector_stores", { id: "s" });
  const embeddings = Array.from({ length: 20 }, (_, n) => ({
    id: `e${n}`,
    content: `text ${n}`,
    embedding: [1, n],
  }));
  expect((await send("POST", `${path}/embeddings/batch`, { embeddings })).status).toBe(200);
  const gate = Promise.withResolvers<void>();
  provider.next({ until: gate.promise });
  expect((await send("POST", `${path}/reembedding`, {})).status).toBe(200);
  await provider.received(1);
  await send("POST", `${path}/index`, { policy: "always" });
  await expect.poll(async () => (await findIndex(database, "s")).index_state).toBe("ready");
  gate.resolve();
  await expect
    .poll(async () => (await send("GET", `${path}/reembedding`)).json)
    .toMatchObject({ status: "failed", last_error: expect.stringContaining("worker of the Citus cluster") });
  expect((await send("GET", path)).json).toMatchObject({ dimensions: 2, embedding_count: 20 });
  // The index worker drops the table that was to get the new vectors.
  const { own_table: own } = await findIndex(database, "s");
  await expect.poll(async () => (await findLeftovers(database)).tables).toEqual([own]);
});
