import { createClient } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import type { OpenAI } from "openai";
import { expect, inject, onTestFinished, test, vi } from "vitest";
import { VectorStoreFileService } from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { promoteStore } from "../../../src/indexes/worker.ts";
import { openTestDatabase, type TestDatabase } from "../../support/databases/database.ts";
import { embedderAt } from "../../support/servers/embedder.ts";
import { startEmbeddingServer, type EmbeddingServer } from "../../support/servers/embedding-server.ts";
import { readCounters, until, uploadText } from "../../support/stores/files.ts";
import { clientOf, startFileService } from "../../support/servers/file-service.ts";
import { countByTable, TEST_INDEXES } from "../../support/stores/index-store.ts";
import { startServer } from "../../support/servers/server.ts";

const isNative = inject("template").kind === "postgres";

async function expectTrueCounts(database: TestDatabase, storeId: string): Promise<void> {
  const { kept, counted } = await readCounters(database, storeId);
  expect(kept).toEqual(counted);
}

/** Lets the provider answer nothing until the function it returns is called. */
function hold(provider: EmbeddingServer): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  provider.always({ until: promise });
  return () => {
    provider.always({});
    resolve();
  };
}

test("a provider that is away is waited for, and costs the file nothing", async () => {
  const { client, database, provider } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  const fileId = await uploadText(client, "Patience is a virtue.");
  // Long enough to be looked at meanwhile.
  provider.next({ status: 503, body: { error: { message: "overloaded" } }, headers: { "retry-after": "5" } });
  await client.vectorStores.files.create(storeId, { file_id: fileId });
  await provider.received(1);
  const waiting = await until(async () => {
    const { rows } = await database.pool.query(
      "select attempts, retries, status from pgquiver_vector_store_files where retries > 0",
    );
    return rows[0] as object | undefined;
  });
  expect(waiting).toEqual({ attempts: 0, retries: 1, status: "in_progress" });
  expect(await client.vectorStores.files.poll(storeId, fileId)).toMatchObject({
    status: "completed",
    last_error: null,
  });
  await expectTrueCounts(database, storeId);
});

test.each([
  ["gRPC", createGrpcTransport],
  ["Connect", (options: { baseUrl: string }) => createConnectTransport({ ...options, httpVersion: "1.1" })],
  ["gRPC-Web", (options: { baseUrl: string }) => createGrpcWebTransport({ ...options, httpVersion: "1.1" })],
] as const)("a client is told over %s, too, when to ask again", async (_, transport) => {
  const { client, provider, server } = await startFileService();
  const { id: vectorStoreId } = await client.vectorStores.create({});
  const fileId = await uploadText(client, "Not yet.");
  const release = hold(provider);
  await client.vectorStores.files.create(vectorStoreId, { file_id: fileId });
  const files = createClient(VectorStoreFileService, transport({ baseUrl: server.url }));
  let told: string | null = null;
  await files.getVectorStoreFile(
    { vectorStoreId, fileId },
    { onHeader: (headers) => (told = headers.get("openai-poll-after-ms")) },
  );
  release();
  expect(told).toMatch(/^[1-9][0-9]{2,3}$/);
});

test("a text the provider refuses fails with its words", async () => {
  const { client, database, provider } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  const fileId = await uploadText(client, "Too much for it.");
  provider.always({ status: 400, body: { error: { message: "input is too long for the model" } } });
  expect(await client.vectorStores.files.createAndPoll(storeId, { file_id: fileId })).toMatchObject({
    status: "failed",
    last_error: { code: "server_error", message: expect.stringContaining("input is too long for the model") },
  });
  provider.always({});
  await expectTrueCounts(database, storeId);
  const again = await client.vectorStores.files.createAndPoll(storeId, {
    file_id: fileId,
    attributes: { n: 2 },
  });
  expect(again).toMatchObject({ status: "completed", last_error: null, attributes: { n: 2 } });
  await expectTrueCounts(database, storeId);
});

test("a store of other dimensions, or of another model, refuses the file", async () => {
  const { client, database, provider } = await startFileService();
  const fileId = await uploadText(client, "Eight numbers.");
  const { id: other } = await client.post<{ id: string }>("/vector_stores", { body: { dimensions: 3 } });
  expect(await client.vectorStores.files.createAndPoll(other, { file_id: fileId })).toMatchObject({
    status: "failed",
    last_error: { code: "server_error", message: expect.stringMatching(/ 3 dimensions.* makes 8\./) },
  });
  const { id: storeId } = await client.vectorStores.create({});
  await database.pool.query("update vector_stores set embedding_model = 'another' where id = $1", [storeId]);
  const requests = provider.requests.length;
  expect(await client.vectorStores.files.createAndPoll(storeId, { file_id: fileId })).toMatchObject({
    status: "failed",
    last_error: { message: expect.stringContaining("'another'") },
  });
  expect(provider.requests).toHaveLength(requests);
});

test.each([
  [
    "removed from the store",
    (client: OpenAI, storeId: string, fileId: string) =>
      client.vectorStores.files.delete(fileId, { vector_store_id: storeId }),
  ],
  ["deleted", (client: OpenAI, _: string, fileId: string) => client.files.delete(fileId)],
])("a file %s while it is processed stays away", async (_, remove) => {
  const { client, database, provider } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  const fileId = await uploadText(client, "Gone before it came.");
  const release = hold(provider);
  await client.vectorStores.files.create(storeId, { file_id: fileId });
  await provider.received(1);
  await remove(client, storeId, fileId);
  expect(await provider.requests[0]?.abandoned).toBe(true);
  release();
  expect((await client.vectorStores.files.list(storeId)).data).toEqual([]);
  const next = await uploadText(client, "The next one.");
  expect(await client.vectorStores.files.createAndPoll(storeId, { file_id: next })).toMatchObject({
    status: "completed",
  });
  expect(
    (await client.vectorStores.search(storeId, { query: "gone next" })).data.map((hit) => hit.file_id),
  ).toEqual([next]);
  await expectTrueCounts(database, storeId);
});

test("a store deleted while its files are processed leaves nothing", async () => {
  const { client, database, provider } = await startFileService();
  const fileIds = [await uploadText(client, "One."), await uploadText(client, "Two.")];
  const release = hold(provider);
  const { id: storeId } = await client.vectorStores.create({ file_ids: fileIds });
  await provider.received(2);
  await client.vectorStores.delete(storeId);
  for (const request of provider.requests) expect(await request.abandoned).toBe(true);
  release();
  const { rows } = await database.pool.query(
    "select (select count(*) from embeddings)::int as rows, (select count(*) from pgquiver_vector_store_files)::int as files",
  );
  expect(rows).toEqual([{ rows: 0, files: 0 }]);
});

test("a cancelled batch stops its work at once, and its files can be attached again", async () => {
  const { client, database, provider } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  const fileIds: string[] = [];
  for (let index = 0; index < 6; index++) fileIds.push(await uploadText(client, `Text ${index}.`));
  const release = hold(provider);
  const batch = await client.vectorStores.fileBatches.create(storeId, { file_ids: fileIds });
  await provider.received(4);
  const place = { vector_store_id: storeId };
  const cancelled = await client.vectorStores.fileBatches.cancel(batch.id, place);
  const expected = {
    status: "cancelled",
    file_counts: { in_progress: 0, completed: 0, failed: 0, cancelled: 6, total: 6 },
  };
  expect(cancelled).toMatchObject(expected);
  for (const request of provider.requests) expect(await request.abandoned).toBe(true);
  release();
  expect(await client.vectorStores.fileBatches.retrieve(batch.id, place)).toMatchObject(expected);
  expect(await client.vectorStores.retrieve(storeId)).toMatchObject({
    status: "completed",
    file_counts: expected.file_counts,
  });
  await expectTrueCounts(database, storeId);
  const again = await client.vectorStores.fileBatches.createAndPoll(storeId, { file_ids: fileIds });
  expect(again).toMatchObject({ status: "completed", file_counts: { completed: 6, cancelled: 0, total: 6 } });
  // Cancelling what is done changes nothing.
  expect(await client.vectorStores.fileBatches.cancel(again.id, place)).toMatchObject({
    status: "completed",
  });
  await expectTrueCounts(database, storeId);
});

test("attributes that change while a file is processed are those of its chunks", async () => {
  const { client, provider } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  const fileId = await uploadText(client, "Attributed.");
  const release = hold(provider);
  await client.vectorStores.files.create(storeId, { file_id: fileId, attributes: { version: 1 } });
  await provider.received(1);
  await client.vectorStores.files.update(fileId, { vector_store_id: storeId, attributes: { version: 2 } });
  release();
  expect(await client.vectorStores.files.poll(storeId, fileId)).toMatchObject({ attributes: { version: 2 } });
  const { data } = await client.vectorStores.search(storeId, { query: "attributed" });
  expect(data[0]?.attributes).toEqual({ version: 2 });
});

test("of a large file nothing is found before all of it is", async () => {
  const { client, database, provider } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  const words = Array.from({ length: 60_000 }, (_, index) => `word${index}`).join(" ");
  const fileId = await uploadText(client, words);
  const staged = async () => {
    const { rows } = await database.pool.query<{ count: number }>(
      "select count(*)::int from pgquiver_staged_chunks",
    );
    return rows[0]?.count ?? 0;
  };
  // The first group passes, the second waits.
  const { promise, resolve } = Promise.withResolvers<void>();
  provider.next({}, 8);
  provider.always({ until: promise });
  await client.vectorStores.files.create(storeId, {
    file_id: fileId,
    chunking_strategy: { type: "static", static: { max_chunk_size_tokens: 100, chunk_overlap_tokens: 0 } },
  });
  await until(async () => ((await staged()) > 0 ? true : undefined));
  expect((await client.vectorStores.search(storeId, { query: "word1" })).data).toEqual([]);
  expect(await client.vectorStores.retrieve(storeId)).toMatchObject({
    status: "in_progress",
    embedding_count: 0,
  });
  provider.always({});
  resolve();
  const done = await client.vectorStores.files.poll(storeId, fileId);
  expect(done.status).toBe("completed");
  const { rows } = await database.pool.query<{ places: number[]; bytes: number }>(
    "select array_agg(chunk_index order by chunk_index) as places, sum(octet_length(content))::int as bytes from embeddings",
  );
  expect(rows[0]?.places).toEqual(Array.from({ length: rows[0]?.places.length ?? 0 }, (_, index) => index));
  expect(rows[0]?.places.length).toBeGreaterThan(1000);
  expect(rows[0]?.bytes).toBe(done.usage_bytes);
  expect(await until(async () => ((await staged()) === 0 ? "empty" : undefined))).toBe("empty");
  await expectTrueCounts(database, storeId);
});

test("a store with a table of its own gets, changes, shows and loses files like any other", async () => {
  const { client, database } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  const place = { vector_store_id: storeId };
  const before = await uploadText(client, "Before the move.");
  await client.vectorStores.files.createAndPoll(storeId, { file_id: before, attributes: { n: 1 } });
  await promoteStore(database, storeId, TEST_INDEXES);
  const after = await uploadText(client, "After the move.");
  await client.vectorStores.files.createAndPoll(storeId, { file_id: after, attributes: { n: 2 } });
  expect(Object.values(await countByTable(database, storeId))).toEqual([2]);
  await client.vectorStores.files.update(before, { ...place, attributes: { n: 3 } });
  const { data } = await client.vectorStores.search(storeId, {
    query: "the move",
    filters: { type: "gte", key: "n", value: 2 },
  });
  expect(Object.fromEntries(data.map((hit) => [hit.file_id, hit.attributes]))).toEqual({
    [before]: { n: 3 },
    [after]: { n: 2 },
  });
  expect((await client.vectorStores.files.content(before, place)).data).toEqual([
    { type: "text", text: "Before the move." },
  ]);
  await client.vectorStores.files.delete(before, place);
  await client.files.delete(after);
  expect(await countByTable(database, storeId)).toEqual({});
  await expectTrueCounts(database, storeId);
});

/** Waits until the lease of the one file has been renewed so many times. */
async function renewed(database: TestDatabase, times: number): Promise<void> {
  const seen = new Set<string>();
  await until(async () => {
    const { rows } = await database.probe.query<{ ends: string }>(
      "select due_at::text as ends from pgquiver_vector_store_files where claim is not null",
    );
    for (const { ends } of rows) seen.add(ends);
    return seen.size > times ? true : undefined;
  });
}

test.runIf(isNative)("leases are renewed while what attempts have left behind is removed", async () => {
  const database = await openTestDatabase();
  const provider = await startEmbeddingServer();
  const release = hold(provider);
  const blocker = await database.pool.connect();
  await blocker.query("begin");
  await blocker.query("lock table pgquiver_staged_chunks");
  const server = await startServer({ database, embedder: embedderAt(provider.url) });
  onTestFinished(async () => {
    blocker.release(true);
    await server[Symbol.asyncDispose]();
    await provider.stop();
    await database.close();
  });
  const client = clientOf(server);
  const { id: storeId } = await client.vectorStores.create({});
  await client.vectorStores.files.create(storeId, { file_id: await uploadText(client, "Held.") });
  await renewed(database, 2);
  const waiting =
    "select from pg_stat_activity where datname = current_database() and query like '%staged_chunks%' and wait_event_type = 'Lock'";
  expect((await database.probe.query(waiting)).rowCount).toBe(1);
  release();
  await server.stop(10_000);
  // The sweep has ended with the service, though it still had to wait.
  await vi.waitFor(async () => expect((await database.probe.query(waiting)).rowCount).toBe(0), 60_000);
});

test.runIf(isNative)("leases are renewed while all connections are busy", async () => {
  const { client, database, provider } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  const fileId = await uploadText(client, "Held.");
  const release = hold(provider);
  await client.vectorStores.files.create(storeId, { file_id: fileId });
  await provider.received(1);
  const busy = Array.from({ length: database.pool.options.max ?? 0 }, () => database.pool.connect());
  const connections = await Promise.all(busy);
  onTestFinished(() => connections.forEach((connection) => connection.release()));
  await renewed(database, 2);
  for (const connection of connections.splice(0)) connection.release();
  release();
  expect(await client.vectorStores.files.poll(storeId, fileId)).toMatchObject({ status: "completed" });
  expect(provider.requests).toHaveLength(1);
});

test("a service that stops gives its files back, and the next one goes on at once", async () => {
  const { client, database, provider, server } = await startFileService();
  const { id: storeId } = await client.vectorStores.create({});
  const fileId = await uploadText(client, "Handed over.");
  const release = hold(provider);
  await client.vectorStores.files.create(storeId, { file_id: fileId });
  await provider.received(1);
  await server.stop(0);
  const { rows } = await database.pool.query(
    "select status, claim, attempts, due_at <= now() as due from pgquiver_vector_store_files",
  );
  expect(rows).toEqual([{ status: "in_progress", claim: null, attempts: 0, due: true }]);
  release();
  await using next = await startServer({ database, embedder: embedderAt(provider.url) });
  expect(await clientOf(next).vectorStores.files.poll(storeId, fileId)).toMatchObject({
    status: "completed",
  });
});
