import { OpenAI, toFile } from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readCounters, uploadText } from "../support/stores/files.ts";
import { startServer, type TestServer } from "../support/servers/server.ts";

let server: TestServer;
let client: OpenAI;

beforeAll(async () => {
  server = await startServer();
  client = new OpenAI({ apiKey: "any", baseURL: `${server.url}/v1`, maxRetries: 0 });
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

async function newStore(): Promise<string> {
  return (await client.vectorStores.create({})).id;
}

async function expectTrueCounts(storeId: string): Promise<void> {
  const { kept, counted } = await readCounters(server.database, storeId);
  expect(kept).toEqual(counted);
}

test("a batch of many small files is uploaded five at a time, polled and counted", async () => {
  const storeId = await newStore();
  const count = 200;
  const files = await Promise.all(
    Array.from({ length: count }, (_, index) =>
      toFile(Buffer.from(`Note number ${index}.`), `note-${index}.txt`),
    ),
  );
  const batch = await client.vectorStores.fileBatches.uploadAndPoll(storeId, { files });
  expect(batch).toEqual({
    id: expect.stringMatching(/^vsfb_[0-9a-f]{32}$/),
    object: "vector_store.file_batch",
    created_at: expect.any(Number),
    vector_store_id: storeId,
    status: "completed",
    file_counts: { in_progress: 0, completed: count, failed: 0, cancelled: 0, total: count },
    files_per_second: null,
    seconds_left: null,
  });
  expect(await client.vectorStores.retrieve(storeId)).toMatchObject({
    status: "completed",
    embedding_count: count,
  });
  await expectTrueCounts(storeId);
});

test("a batch has settings for each file, or for all", async () => {
  const storeId = await newStore();
  const [one, two] = [await uploadText(client, "One."), await uploadText(client, "Two.")];
  const strategy = {
    type: "static" as const,
    static: { max_chunk_size_tokens: 200, chunk_overlap_tokens: 0 },
  };
  const batch = await client.vectorStores.fileBatches.createAndPoll(storeId, {
    files: [{ file_id: one, attributes: { n: 1 }, chunking_strategy: strategy }, { file_id: two }],
    attributes: { ignored: true },
  } as never);
  expect(batch.file_counts).toMatchObject({ completed: 2, total: 2 });
  const place = { vector_store_id: storeId };
  expect(await client.vectorStores.files.retrieve(one, place)).toMatchObject({
    attributes: { n: 1 },
    chunking_strategy: strategy,
  });
  expect(await client.vectorStores.files.retrieve(two, place)).toMatchObject({
    attributes: null,
    chunking_strategy: {
      type: "static",
      static: { max_chunk_size_tokens: 800, chunk_overlap_tokens: 400 },
    },
  });
  const listed = await client.vectorStores.fileBatches.listFiles(batch.id, {
    ...place,
    filter: "completed",
    order: "asc",
  });
  expect(listed.data.map(({ id }) => id)).toEqual([one, two].toSorted());
  await client.vectorStores.files.delete(one, place);
  expect((await client.vectorStores.fileBatches.retrieve(batch.id, place)).file_counts).toMatchObject({
    total: 1,
  });
});

test("a batch with a file that does not exist attaches none, and says which", async () => {
  const storeId = await newStore();
  const one = await uploadText(client, "One.");
  const missing = `file-${"0".repeat(32)}`;
  await expect(
    client.vectorStores.fileBatches.create(storeId, { file_ids: [one, missing] }),
  ).rejects.toMatchObject({
    status: 404,
    param: "file_ids[1]",
    error: { message: `No such File object: ${missing}` },
  });
  expect((await client.vectorStores.files.list(storeId)).data).toEqual([]);
  await expectTrueCounts(storeId);
});

test.each([
  [{}, "file_ids", "missing_required_parameter"],
  [{ file_ids: ["file-a"], files: [{ file_id: "file-b" }] }, "files", "invalid_value"],
  [
    { file_ids: Array.from({ length: 2001 }, (_, index) => `file-${index}`) },
    "file_ids",
    "array_above_max_length",
  ],
  [{ file_ids: ["vs_1"] }, "file_ids[0]", "invalid_value"],
  [{ files: [{ file_id: "file-a", attributes: { a: [1] } }] }, "files[0].attributes.a", "invalid_type"],
])("a batch is refused when it is malformed: %j", async (body, param, code) => {
  const storeId = await newStore();
  await expect(client.post(`/vector_stores/${storeId}/file_batches`, { body })).rejects.toMatchObject({
    status: 400,
    param,
    code,
  });
});

test("a batch is looked for by an id of its own kind", async () => {
  const storeId = await newStore();
  await expect(
    client.vectorStores.fileBatches.retrieve(storeId, { vector_store_id: storeId }),
  ).rejects.toMatchObject({
    status: 400,
    error: { message: `Invalid 'batch_id': '${storeId}'. Expected an ID that begins with 'vsfb_'.` },
  });
  await expect(
    client.vectorStores.fileBatches.retrieve("vsfb_none", { vector_store_id: storeId }),
  ).rejects.toMatchObject({ status: 404 });
});
