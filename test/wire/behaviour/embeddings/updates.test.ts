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
  const create = (request: Json) => embeddings("CreateEmbedding", { id: "a", ...request });
  const get = () => embeddings("GetEmbedding", { embedding_id: "a" });
  // Over REST the keys of the body are the mask.
  const maskOf = (change: Json) =>
    protocol.name.startsWith("REST") ? {} : { update_mask: Object.keys(change) };
  const update = (change: Json) =>
    embeddings("UpdateEmbedding", { embedding_id: "a", ...change, ...maskOf(change) });
  const store = (): Promise<Reply> => call("VectorStoreService/GetVectorStore", { vector_store_id: storeId });
  const search = async (request: Json): Promise<string> =>
    (await call("SearchService/Search", { vector_store_id: storeId, ...request })).data[0].content[0].text;

  test("changes the fields of the mask and leaves the others", async () => {
    const made = await create({ content: "heron", embedding: [1, 0], metadata: { a: 1 }, created_at: 1000 });
    const changed = await update({ embedding: [0, 2] });
    expect(changed).toEqual({ ...made, embedding: null });
    expect(await get()).toEqual({ ...made, embedding: [0, 2] });
    await update({ metadata: { b: [1, { c: null }] } });
    await update({ content: "grey heron", embedding: [3, 4] });
    const metadata = { b: [1, { c: null }] };
    expect(await get()).toEqual({ ...made, content: "grey heron", metadata, embedding: [3, 4] });
    expect(await store()).toMatchObject({ embedding_count: 1, usage_bytes: 10, file_counts: { total: 1 } });
    expect(await search({ embedding: [3, 4] })).toBe("grey heron");
  });

  test("merges metadata key by key, and null removes a key", async () => {
    await create({
      content: "x",
      embedding: [1],
      metadata: { kept: 1e300, gone: "x", deep: { a: 1, b: 2 } },
    });
    const merged = { kept: 1e300, deep: { a: 3 }, added: [null] };
    const patch = { gone: null, never: null, deep: { a: 3 }, added: [null] };
    expect((await update({ metadata_merge: patch })).metadata).toEqual(merged);
    expect((await get()).metadata).toEqual(merged);
    const both = update({ metadata: {}, metadata_merge: {} });
    await expect(both).rejects.toMatchObject({ code: "invalid_argument", param: "metadata_merge" });
  });

  test("holds the limit of metadata for the result of a merge", async () => {
    const half = "x".repeat(40_000);
    await create({ content: "x", embedding: [1], metadata: { half } });
    await expect(update({ metadata_merge: { other: half } })).rejects.toMatchObject({
      code: "invalid_argument",
      reason: "STRING_ABOVE_MAX_LENGTH",
      param: "metadata_merge",
    });
    expect((await get()).metadata).toEqual({ half });
  });

  test("embeds a new text that comes without a vector", async () => {
    await create({ content: "the quick brown fox" });
    const { embedding: before } = await get();
    await update({ content: "a lazy dog" });
    const { embedding: after } = await get();
    expect(after).toHaveLength(before.length);
    expect(after).not.toEqual(before);
    await create({ id: "b", content: "foxes are brown" });
    expect(await search({ query: "lazy dogs" })).toBe("a lazy dog");
  });

  test.each<[string, Json, object]>([
    [
      "a vector of other dimensions",
      { embedding: [1, 2, 3] },
      { reason: "DIMENSION_MISMATCH", param: "embedding" },
    ],
    [
      "a text whose vector would have others",
      { content: "y" },
      { reason: "DIMENSION_MISMATCH", param: "content" },
    ],
    ["an empty text", { content: "" }, { param: "content" }],
    ["a vector of zeros", { embedding: [0, 0] }, { param: "embedding" }],
    ["no vector", { embedding: [] }, { param: "embedding" }],
    ["NUL in a key that is removed", { metadata_merge: { "\0": null } }, { param: "metadata_merge" }],
  ])("refuses %s, and changes nothing", async (_name, change, error) => {
    const made = await create({ content: "x", embedding: [1, 2] });
    await expect(update(change)).rejects.toMatchObject({ code: "invalid_argument", ...error });
    expect(await get()).toEqual({ ...made, embedding: [1, 2] });
  });

  test("refuses chunks of files, naming the file", async () => {
    await create({ content: "x", embedding: [1] });
    await pool.query("update embeddings set file_id = 'file-9'");
    for (const change of [{ content: "y" }, { metadata_merge: { a: 1 } }]) {
      await expect(update(change)).rejects.toMatchObject({
        reason: "EMBEDDING_OF_FILE",
        message: expect.stringContaining("file-9"),
      });
    }
  });

  test("loses nothing of updates at the same time, and counts them", async () => {
    await create({ content: "0", embedding: [1, 1], metadata: { start: true } });
    const texts = Array.from({ length: 6 }, (_, index) => "ä".repeat(index + 1));
    await Promise.all([
      ...texts.map((content, index) => update({ content, embedding: [1, index + 1] })),
      ...texts.map((_, index) => update({ metadata_merge: { [`k${index}`]: index } })),
    ]);
    const { content, embedding, metadata } = await get();
    expect(metadata).toEqual({ start: true, k0: 0, k1: 1, k2: 2, k3: 3, k4: 4, k5: 5 });
    expect(embedding).toEqual([1, content.length]);
    expect(await store()).toMatchObject({ embedding_count: 1, usage_bytes: 2 * content.length });
  });
});
