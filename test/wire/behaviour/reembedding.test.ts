import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { LEXICAL_MODEL } from "../../../src/models/lexical.ts";
import { type Json, type Reply } from "../../support/clients/client.ts";
import { protocols } from "../../support/clients/clients.ts";
import { startServer } from "../../support/servers/server.ts";

/** Without a worker: a job that is requested stays as it is. */
const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let id: string;
  beforeEach(async () => {
    ({ id } = await call("VectorStoreService/CreateVectorStore", {}));
    await call("EmbeddingService/CreateEmbedding", { vector_store_id: id, content: "x", embedding: [1, 2] });
  });
  const ask = (rpc: string, request: Json = { vector_store_id: id }): Promise<Reply> =>
    call(`VectorStoreService/${rpc}`, request);

  test("a re-embedding is requested once, read, and cancelled", async () => {
    await expect(ask("GetVectorStoreReembedding")).rejects.toMatchObject({ code: "not_found" });
    const requested = await ask("ReembedVectorStore");
    expect(requested).toMatchObject({
      object: "vector_store.reembedding",
      vector_store_id: id,
      status: "in_progress",
      phase: "copying",
      model: LEXICAL_MODEL,
      dimensions: 1536,
      former_dimensions: 2,
      rows: 1,
      rows_embedded: 0,
      tokens: 0,
      created_at: expect.any(Number),
    });
    expect(await ask("ReembedVectorStore")).toEqual(requested);
    expect(await ask("GetVectorStoreReembedding")).toEqual(requested);
    const cancelled = await ask("CancelVectorStoreReembedding");
    expect(cancelled).toMatchObject({ status: "cancelled", completed_at: expect.any(Number) });
    expect(await ask("CancelVectorStoreReembedding")).toEqual(cancelled);
  });

  test.each(["ReembedVectorStore", "GetVectorStoreReembedding", "CancelVectorStoreReembedding"])(
    "%s of an unknown store is NOT_FOUND",
    async (rpc) => {
      await expect(ask(rpc, { vector_store_id: "vs_none" })).rejects.toMatchObject({
        code: "not_found",
        param: "vector_store_id",
      });
    },
  );

  test("a store that has vectors of the model is refused", async () => {
    const { id: other } = await call("VectorStoreService/CreateVectorStore", {});
    await call("EmbeddingService/CreateEmbedding", { vector_store_id: other, content: "x" });
    await expect(ask("ReembedVectorStore", { vector_store_id: other })).rejects.toMatchObject({
      reason: "MODEL_IN_USE",
    });
  });
});
