import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { type Json, type Reply } from "../../../support/clients/client.ts";
import { protocols } from "../../../support/clients/clients.ts";
import { startServer } from "../../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let storeId: string;
  beforeEach(async () => {
    storeId = (await call("VectorStoreService/CreateVectorStore")).id;
  });

  const embeddings = (rpc: string, request: Json = {}): Promise<Reply> =>
    call(`EmbeddingService/${rpc}`, { vector_store_id: storeId, ...request });
  const create = (request: Json) => embeddings("CreateEmbedding", request);
  const list = (page: Json = {}) => embeddings("ListEmbeddings", page);
  const idsOf = (page: Reply): string[] => page.data.map(({ id }: { id: string }) => id);

  test("a batch's reply repeats text and metadata where the request says so, by default over REST only", async () => {
    const inputs = [
      { content: "one", metadata: { n: 1 }, embedding: [1] },
      { content: "two", metadata: {}, embedding: [2] },
    ];
    const given = inputs.map(({ content, metadata }) => ({ content, metadata }));
    const none = inputs.map(() => ({ content: "", metadata: {} }));
    const answers = async (request: Json): Promise<Json[]> => {
      const { data } = await embeddings("BatchCreateEmbeddings", { embeddings: inputs, ...request });
      return data.map(({ content, metadata }: Json) => ({ content, metadata: metadata ?? {} }));
    };
    expect(await answers({ include_content: true })).toEqual(given);
    expect(await answers({ include_content: false })).toEqual(none);
    expect(await answers({})).toEqual(protocol.name.startsWith("REST") ? given : none);
  });

  test("a page ends before its bytes exceed 3 MiB, and goes on with the next", async () => {
    const ids = ["a", "b", "c", "d", "e"];
    for (const id of ids) await create({ id, content: id.repeat(1_000_000), embedding: [1] });
    await create({ id: "f", content: "small", metadata: { filler: "x".repeat(60_000) }, embedding: [1] });
    for (const include_embedding of [false, true]) {
      const page = { limit: 100, order: "asc", include_embedding };
      const first = await list(page);
      expect([idsOf(first), first.has_more]).toEqual([["a", "b", "c"], true]);
      const second = await list({ ...page, after: first.last_id });
      expect([idsOf(second), second.has_more]).toEqual([["d", "e", "f"], false]);
      const back = await list({ ...page, before: "e" });
      expect([idsOf(back), back.has_more]).toEqual([["b", "c", "d"], true]);
    }
    expect(idsOf(await list({ limit: 1, order: "desc", after: "c" }))).toEqual(["b"]);
  });
});
