import { afterAll, expect, test } from "vitest";
import { embedderAt } from "../../support/servers/embedder.ts";
import { startEmbeddingServer } from "../../support/servers/embedding-server.ts";
import { grpcJs } from "../../support/clients/ingest-client.ts";
import { batch, createStore, makeRows, open, readIds } from "../../support/stores/ingest-store.ts";
import { jsonClient } from "../../support/clients/json.ts";
import { startServer } from "../../support/servers/server.ts";

/** An ingest of vectors of two dimensions into a store that comes to a model of 16 meanwhile. */
const provider = await startEmbeddingServer({ dimensions: 16 });
const embedder = embedderAt(provider.url, { model: "new", dimensions: 16, batchTextsMax: 256 });
const server = await startServer({ embedder, indexes: { isWorking: true }, indexPollMs: 20 });
const client = grpcJs.connect(server);
const send = jsonClient(server.url);
afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
  await provider.stop();
});

async function embedAgain(storeId: string): Promise<void> {
  const path = `/v1/vector_stores/${storeId}/reembedding`;
  expect((await send("POST", path, {})).status).toBe(200);
  await expect
    .poll(async () => (await send("GET", path)).json["status"], { timeout: 60_000, interval: 50 })
    .toBe("completed");
}

test.each([
  ["inserts", { mode: "WRITE_MODE_INSERT" }],
  ["upserts", { mode: "WRITE_MODE_UPSERT" }],
])(
  "a stream that %s is refused with the dimensions of both, and leaves nothing more",
  async (_, settings) => {
    const storeId = await createStore(server);
    const { json } = await send("POST", `/v1/vector_stores/${storeId}/embeddings/batch`, {
      embeddings: makeRows(3),
    });
    expect(json["data"]).toHaveLength(3);
    const session = client.session();
    await session.send(open(storeId, settings));
    expect(await session.next()).toMatchObject({ opened: { resume_after_seq: 0 } });
    await embedAgain(storeId);
    await session.send(batch(1, makeRows(3, "late")));
    session.end();
    await expect(session.next()).rejects.toMatchObject({
      code: "invalid_argument",
      message: expect.stringContaining("holds vectors of 16 dimensions, but got 2"),
    });
    expect(await readIds(server, storeId)).toEqual(makeRows(3).map(({ id }) => id));
  },
);
