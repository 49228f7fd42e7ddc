import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { type Json, type Reply } from "../../support/clients/client.ts";
import { protocols } from "../../support/clients/clients.ts";
import { embedderAt } from "../../support/servers/embedder.ts";
import { startEmbeddingServer } from "../../support/servers/embedding-server.ts";
import { startServer } from "../../support/servers/server.ts";

const provider = await startEmbeddingServer();
const server = await startServer({ embedder: embedderAt(provider.url) });
const { pool } = server.database;
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await provider[Symbol.asyncDispose]();
});

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let storeId: string;
  beforeEach(async () => {
    storeId = (await call("VectorStoreService/CreateVectorStore")).id;
    await call("EmbeddingService/CreateEmbedding", { vector_store_id: storeId, content: "a" });
  });

  const uses: [string, Json][] = [
    ["EmbeddingService/CreateEmbedding", { content: "b" }],
    ["EmbeddingService/BatchCreateEmbeddings", { embeddings: [{ content: "b" }, { content: "c" }] }],
    ["SearchService/Search", { query: "b" }],
  ];

  /** Begins a call whose embedding never ends; resolves when the provider has been asked. */
  async function begin(
    rpc: string,
    request: Json,
    options: Json,
  ): Promise<{ outcome: Promise<Reply>; abandoned: Promise<boolean> }> {
    const asked = provider.requests.length;
    provider.next({ fault: "silence" });
    const outcome = call(rpc, { vector_store_id: storeId, ...request }, options).then(
      () => expect.unreachable("the call succeeded"),
      (error: Reply) => error.code as string,
    );
    await provider.received(asked + 1);
    return { outcome, abandoned: (provider.requests[asked] as { abandoned: Promise<boolean> }).abandoned };
  }

  async function expectUnchanged(): Promise<void> {
    const { rows } = await pool.query("select content from embeddings where vector_store_id = $1", [storeId]);
    expect(rows).toEqual([{ content: "a" }]);
    const store = await call("VectorStoreService/GetVectorStore", { vector_store_id: storeId });
    expect(store).toMatchObject({ usage_bytes: 1, file_counts: { total: 1 } });
  }

  test.each(uses)(
    "%s given up by its caller asks no more of the provider and stores nothing",
    async (rpc, request) => {
      const abort = new AbortController();
      const { outcome, abandoned } = await begin(rpc, request, { signal: abort.signal });
      abort.abort();
      expect(await outcome).toBe("cancelled");
      expect(await abandoned).toBe(true);
      await expectUnchanged();
    },
  );

  test.each(uses)(
    "%s that outlives its deadline asks no more of the provider and stores nothing",
    async (rpc, request) => {
      const { outcome, abandoned } = await begin(rpc, request, { timeoutMs: 2_000 });
      expect(await outcome).toBe("deadline_exceeded");
      expect(await abandoned).toBe(true);
      await expectUnchanged();
    },
  );

  test("an unknown store is refused before the provider is asked", async () => {
    const asked = provider.requests.length;
    for (const [rpc, request] of uses) {
      await expect(call(rpc, { vector_store_id: "vs_none", ...request })).rejects.toMatchObject({
        code: "not_found",
      });
    }
    expect(provider.requests).toHaveLength(asked);
  });
});
