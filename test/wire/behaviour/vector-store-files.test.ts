import { OpenAI } from "openai";
import { afterAll, describe, expect, test } from "vitest";
import type { Json, Reply } from "../../support/clients/client.ts";
import { protocols } from "../../support/clients/clients.ts";
import { readCounters, until, uploadText } from "../../support/stores/files.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());
const openai = new OpenAI({ apiKey: "any", baseURL: `${server.url}/v1`, maxRetries: 0 });

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  const files = (rpc: string, request: Json): Promise<Reply> =>
    call(`VectorStoreFileService/${rpc}`, request);
  const done = (request: Json): Promise<Reply> =>
    until(async () => {
      const file = await files("GetVectorStoreFile", request);
      return file.status === "in_progress" ? undefined : file;
    });

  test("files are attached, changed, listed, read and removed", async () => {
    const { id: vector_store_id } = await call("VectorStoreService/CreateVectorStore");
    const file_id = await uploadText(openai, "A text about herons.");
    const place = { vector_store_id, file_id };
    const attributes = { bird: true, legs: 2, name: "Ardea" };
    const attached = await files("CreateVectorStoreFile", { ...place, attributes });
    const expected = {
      id: file_id,
      object: "vector_store.file",
      vector_store_id,
      created_at: expect.any(Number),
      attributes,
      last_error: null,
      progress: expect.toSatisfy((value) => value === null || typeof value === "object"),
      replaces_file_id: null,
      chunking_strategy: {
        type: "static",
        static: { max_chunk_size_tokens: 800, chunk_overlap_tokens: 400 },
      },
    };
    expect(attached).toMatchObject(expected);
    expect(await done(place)).toEqual({ ...expected, status: "completed", usage_bytes: 20 });
    expect(await files("GetVectorStoreFileContent", place)).toMatchObject({
      object: "vector_store.file_content.page",
      data: [{ type: "text", text: "A text about herons." }],
      has_more: false,
    });
    const changed = await files("UpdateVectorStoreFile", { ...place, attributes: { legs: 3 } });
    expect(changed.attributes).toEqual({ legs: 3 });
    expect(await files("ListVectorStoreFiles", { vector_store_id, filter: "completed" })).toMatchObject({
      object: "list",
      data: [{ id: file_id, attributes: { legs: 3 } }],
      first_id: file_id,
      last_id: file_id,
      has_more: false,
    });
    expect((await files("ListVectorStoreFiles", { vector_store_id, filter: "failed" })).data).toEqual([]);
    expect(await files("DeleteVectorStoreFile", place)).toEqual({
      id: file_id,
      object: "vector_store.file.deleted",
      deleted: true,
    });
    await expect(files("GetVectorStoreFile", place)).rejects.toMatchObject({
      code: "not_found",
      param: "file_id",
    });
    const { kept, counted } = await readCounters(server.database, vector_store_id);
    expect(kept).toEqual(counted);
  });

  test("files are replaced by new versions", async () => {
    const { id: vector_store_id } = await call("VectorStoreService/CreateVectorStore");
    const file_id = await uploadText(openai, "A text about herons.");
    const place = { vector_store_id, file_id };
    await files("CreateVectorStoreFile", { ...place, attributes: { legs: 2 } });
    await done(place);
    const new_file_id = await uploadText(openai, "A text about storks.");
    const replacing = await files("ReplaceVectorStoreFile", { ...place, new_file_id });
    const expected = { id: new_file_id, attributes: { legs: 2 }, replaces_file_id: file_id };
    expect(replacing).toMatchObject(expected);
    const next = { vector_store_id, file_id: new_file_id };
    expect(await done(next)).toMatchObject({ ...expected, status: "completed" });
    expect(await files("ListVectorStoreFiles", { vector_store_id })).toMatchObject({
      data: [{ id: new_file_id }],
    });
    expect((await files("GetVectorStoreFileContent", next)).data).toMatchObject([
      { text: "A text about storks." },
    ]);
    expect(await files("ReplaceVectorStoreFile", { ...place, new_file_id })).toMatchObject(expected);
    const missing = files("ReplaceVectorStoreFile", { ...next, new_file_id: "file-none" });
    await expect(missing).rejects.toMatchObject({ code: "not_found", param: "new_file_id" });
    const { kept, counted } = await readCounters(server.database, vector_store_id);
    expect(kept).toEqual(counted);
  });

  test("files are cut by characters", async () => {
    const { id: vector_store_id } = await call("VectorStoreService/CreateVectorStore");
    const file_id = await uploadText(openai, "abcdefghij ".repeat(10));
    const place = { vector_store_id, file_id };
    const characters = { max_chunk_size_characters: 40, chunk_overlap_characters: 10 };
    const chunking_strategy = { type: "characters", characters };
    const attached = await files("CreateVectorStoreFile", { ...place, chunking_strategy });
    expect(attached.chunking_strategy).toMatchObject({ type: "other", static: null });
    expect((await done(place)).status).toBe("completed");
    const { data } = await files("GetVectorStoreFileContent", place);
    expect(data.length).toBeGreaterThan(2);
    for (const { text } of data) expect(text.length).toBeLessThanOrEqual(40);
  });

  test("batches are made, shown, cancelled and listed", async () => {
    const { id: vector_store_id } = await call("VectorStoreService/CreateVectorStore");
    const file_ids = [await uploadText(openai, "One."), await uploadText(openai, "Two.")];
    const { id: batch_id } = await files("CreateVectorStoreFileBatch", { vector_store_id, file_ids });
    const place = { vector_store_id, batch_id };
    const batch = await until(async () => {
      const found = await files("GetVectorStoreFileBatch", place);
      return found.status === "in_progress" ? undefined : found;
    });
    expect(batch).toMatchObject({
      object: "vector_store.file_batch",
      status: "completed",
      file_counts: { in_progress: 0, completed: 2, failed: 0, cancelled: 0, total: 2 },
    });
    expect(await files("CancelVectorStoreFileBatch", place)).toEqual(batch);
    const listed = await files("ListVectorStoreFileBatchFiles", { ...place, order: "asc", limit: 1 });
    expect(listed).toMatchObject({ data: [{ id: file_ids[0] }], has_more: true });
    await expect(
      files("CreateVectorStoreFileBatch", { vector_store_id, file_ids: ["file-none"] }),
    ).rejects.toMatchObject({ code: "not_found", param: "file_ids[0]" });
    await expect(files("GetVectorStoreFileBatch", { ...place, batch_id: "vs_1" })).rejects.toMatchObject({
      code: "invalid_argument",
      param: "batch_id",
    });
  });
});
