import { OpenAI, toFile } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readCounters, uploadText } from "../support/stores/files.ts";
import { startServer, type TestServer } from "../support/servers/server.ts";

const AUTO = { type: "static", static: { max_chunk_size_tokens: 800, chunk_overlap_tokens: 400 } };

let server: TestServer;
let client: OpenAI;
/** The methods of the client's requests. */
const requests: string[] = [];

beforeAll(async () => {
  server = await startServer();
  client = new OpenAI({
    apiKey: "any",
    baseURL: `${server.url}/v1`,
    maxRetries: 0,
    fetch(url, init) {
      requests.push(new Request(url, { method: init?.method ?? "GET" }).method);
      return fetch(url, init);
    },
  });
  // The first file waits for the process that reads files to start.
  await client.vectorStores.files.uploadAndPoll(await newStore(), await toFile(Buffer.from("x"), "x.txt"));
});

afterAll(() => server[Symbol.asyncDispose]());

async function newStore(body: OpenAI.VectorStoreCreateParams = {}): Promise<string> {
  return (await client.vectorStores.create(body)).id;
}

/** Asserts that the counters of a store are those of its rows and files. */
async function expectTrueCounts(storeId: string): Promise<void> {
  const { kept, counted } = await readCounters(server.database, storeId);
  expect(kept).toEqual(counted);
}

async function search(storeId: string, query: string, filters?: OpenAI.ComparisonFilter) {
  const page = await client.vectorStores.search(storeId, { query, ...(filters && { filters }) });
  return page.data;
}

describe("one file", () => {
  test("is uploaded, attached, polled and found", async () => {
    const storeId = await newStore();
    const file = await toFile(
      Buffer.from("The quokka lives on Rottnest Island."),
      "Beuteltiere \u{1F998}.md",
    );
    const attached = await client.vectorStores.files.uploadAndPoll(storeId, file);
    expect(attached).toEqual({
      id: expect.stringMatching(/^file-[0-9a-f]{32}$/),
      object: "vector_store.file",
      usage_bytes: 36,
      created_at: expect.any(Number),
      vector_store_id: storeId,
      status: "completed",
      last_error: null,
      chunking_strategy: AUTO,
      attributes: null,
      progress: null,
      replaces_file_id: null,
    });
    const [hit, ...others] = await search(storeId, "where does the quokka live");
    expect(others).toEqual([]);
    expect(hit).toMatchObject({
      file_id: attached.id,
      filename: "Beuteltiere \u{1F998}.md",
      attributes: {},
      content: [{ type: "text", text: "The quokka lives on Rottnest Island." }],
    });
    expect(await client.vectorStores.retrieve(storeId)).toMatchObject({
      status: "completed",
      usage_bytes: 36,
      embedding_count: 1,
      file_counts: { in_progress: 0, completed: 1, failed: 0, cancelled: 0, total: 1 },
    });
    await expectTrueCounts(storeId);
  });

  test("is in progress at first, and says when to ask again", async () => {
    const storeId = await newStore();
    const fileId = await uploadText(client, "A short text.");
    const { data, response } = await client.vectorStores.files
      .create(storeId, { file_id: fileId })
      .withResponse();
    expect(data).toMatchObject({ id: fileId, status: "in_progress", usage_bytes: 0, last_error: null });
    expect(response.headers.get("openai-poll-after-ms")).toMatch(/^[1-9][0-9]{2}$/);
    requests.length = 0;
    const done = await client.vectorStores.files.poll(storeId, fileId);
    expect(done.status).toBe("completed");
    // Without the header the client would wait for five seconds; with it, it asks a handful of times at most.
    expect(requests.length).toBeLessThan(20);
    const again = await client.vectorStores.files
      .retrieve(fileId, { vector_store_id: storeId })
      .withResponse();
    expect(again.response.headers.get("openai-poll-after-ms")).toBeNull();
  });

  test("keeps its attributes' types, and has them replaced for searches at once", async () => {
    const storeId = await newStore();
    const fileId = await uploadText(client, "Annual report of the otter society.");
    const first = { year: 2026, draft: true, team: "otters", ratio: 0.5 };
    const attached = await client.vectorStores.files.createAndPoll(storeId, {
      file_id: fileId,
      attributes: first,
    });
    expect(attached.attributes).toEqual(first);
    const [hit] = await search(storeId, "otter report", { type: "eq", key: "year", value: 2026 });
    expect(hit?.attributes).toEqual(first);
    const place = { vector_store_id: storeId };
    const updated = await client.vectorStores.files.update(fileId, { ...place, attributes: { year: 2027 } });
    expect(updated).toMatchObject({ id: fileId, status: "completed", attributes: { year: 2027 } });
    expect(await search(storeId, "otter report", { type: "eq", key: "year", value: 2026 })).toEqual([]);
    expect(await search(storeId, "otter report", { type: "eq", key: "year", value: 2027 })).toHaveLength(1);
    const cleared = await client.vectorStores.files.update(fileId, { ...place, attributes: null });
    expect(cleared.attributes).toBeNull();
    expect((await search(storeId, "otter report"))[0]?.attributes).toEqual({});
    await expect(
      client.post(`/vector_stores/${storeId}/files/${fileId}`, { body: {} }),
    ).rejects.toMatchObject({
      status: 400,
      code: "missing_required_parameter",
      param: "attributes",
    });
  });

  test("is attached once, however often", async () => {
    const storeId = await newStore();
    const fileId = await uploadText(client, "Only once.");
    const first = await client.vectorStores.files.createAndPoll(storeId, { file_id: fileId });
    const second = await client.vectorStores.files.create(storeId, { file_id: fileId });
    expect(second).toEqual(first);
    expect(await search(storeId, "only once")).toHaveLength(1);
    await expectTrueCounts(storeId);
  });

  test("is removed with its chunks, and kept itself", async () => {
    const storeId = await newStore();
    const fileId = await uploadText(client, "Soon to be removed.");
    await client.vectorStores.files.createAndPoll(storeId, { file_id: fileId });
    expect(await client.vectorStores.files.delete(fileId, { vector_store_id: storeId })).toEqual({
      id: fileId,
      object: "vector_store.file.deleted",
      deleted: true,
    });
    expect(await search(storeId, "removed")).toEqual([]);
    expect(await client.vectorStores.retrieve(storeId)).toMatchObject({
      usage_bytes: 0,
      file_counts: { completed: 0, total: 0 },
    });
    expect(await client.files.retrieve(fileId)).toMatchObject({ id: fileId });
    for (const method of ["retrieve", "delete", "content"] as const) {
      await expect(
        client.vectorStores.files[method](fileId, { vector_store_id: storeId }),
      ).rejects.toMatchObject({
        status: 404,
        error: { message: `No file found with id '${fileId}' in vector store '${storeId}'.` },
      });
    }
    await expectTrueCounts(storeId);
  });

  test("that is deleted leaves every store", async () => {
    const stores = [await newStore(), await newStore()];
    const fileId = await uploadText(client, "In two stores.");
    for (const storeId of stores) await client.vectorStores.files.createAndPoll(storeId, { file_id: fileId });
    await client.files.delete(fileId);
    for (const storeId of stores) {
      expect(await search(storeId, "two stores")).toEqual([]);
      expect((await client.vectorStores.files.list(storeId)).data).toEqual([]);
      await expectTrueCounts(storeId);
    }
  });

  test("gives its text in order, in chunks that overlap as asked", async () => {
    const storeId = await newStore();
    const words = Array.from({ length: 600 }, (_, index) => `word${index}`).join(" ");
    const fileId = await uploadText(client, words);
    const strategy = {
      type: "static" as const,
      static: { max_chunk_size_tokens: 100, chunk_overlap_tokens: 20 },
    };
    const attached = await client.vectorStores.files.createAndPoll(storeId, {
      file_id: fileId,
      chunking_strategy: strategy,
    });
    expect(attached.chunking_strategy).toEqual(strategy);
    const page = await client.vectorStores.files.content(fileId, { vector_store_id: storeId });
    const texts = page.data.map((piece) => piece.text ?? "");
    expect(texts.length).toBeGreaterThan(10);
    const places = texts.map((text) => Number(/word(\d+)/.exec(text)?.[1]));
    expect(places).toEqual(places.toSorted((a, b) => a - b));
    expect(new Set(texts.join(" ").match(/word\d+/g)).size).toBe(600);
    expect(attached.usage_bytes).toBe(texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0));
    const raw = await client.get<object>(`/vector_stores/${storeId}/files/${fileId}/content`);
    expect(raw).toMatchObject({ object: "vector_store.file_content.page", has_more: false, next_page: null });
    for (const hit of await search(storeId, "word300")) expect(hit.file_id).toBe(fileId);
  });

  test.each([
    ["empty", Buffer.alloc(0), "empty.txt", "invalid_file"],
    [
      "binary",
      Buffer.from(Uint8Array.from({ length: 4096 }, (_, index) => (index * 7919) % 256)),
      "noise.bin",
      "unsupported_file",
    ],
    ["a broken PDF", Buffer.from("%PDF-1.7\nbroken"), "broken.pdf", "invalid_file"],
  ])("that is %s fails with a readable message", async (_, bytes, filename, code) => {
    const storeId = await newStore();
    const file = await client.files.create({ file: await toFile(bytes, filename), purpose: "assistants" });
    const failed = await client.vectorStores.files.createAndPoll(storeId, { file_id: file.id });
    expect(failed).toMatchObject({
      status: "failed",
      usage_bytes: 0,
      last_error: { code, message: expect.stringMatching(/^[A-Z].{10,}\.$/) },
    });
    expect(await client.vectorStores.retrieve(storeId)).toMatchObject({
      status: "completed",
      file_counts: { failed: 1, total: 1 },
    });
    await expectTrueCounts(storeId);
  });
});

describe("a list of files", () => {
  test("is walked completely, in both orders and by status, also when files go meanwhile", async () => {
    const storeId = await newStore();
    const fileIds: string[] = [];
    for (let index = 0; index < 7; index++) fileIds.push(await uploadText(client, `Text ${index}.`));
    const broken = await uploadText(client, "", "empty.txt");
    await client.vectorStores.fileBatches.createAndPoll(storeId, { file_ids: [...fileIds, broken] });
    for (const order of ["asc", "desc"] as const) {
      for (const limit of [1, 3, 8]) {
        const seen: string[] = [];
        for await (const file of client.vectorStores.files.list(storeId, { order, limit }))
          seen.push(file.id);
        const sorted = [...fileIds, broken].toSorted();
        expect(seen).toEqual(order === "asc" ? sorted : sorted.toReversed());
      }
    }
    const failed = await client.vectorStores.files.list(storeId, { filter: "failed" });
    expect(failed.data.map(({ id }) => id)).toEqual([broken]);
    const page = await client.vectorStores.files.list(storeId, {
      order: "asc",
      before: fileIds[3] ?? "",
      limit: 2,
    });
    expect(page.data.map(({ id }) => id)).toEqual([fileIds[1], fileIds[2]]);
    const removed: string[] = [];
    for await (const file of client.vectorStores.files.list(storeId, { limit: 3 })) {
      await client.vectorStores.files.delete(file.id, { vector_store_id: storeId });
      removed.push(file.id);
    }
    expect(removed).toHaveLength(8);
    await expectTrueCounts(storeId);
  });

  test("refuses a position nobody knows, and a status there is not", async () => {
    const storeId = await newStore();
    await expect(client.vectorStores.files.list(storeId, { after: "file-nowhere" })).rejects.toMatchObject({
      status: 400,
      param: "after",
    });
    await expect(
      client.vectorStores.files.list(storeId, { filter: "queued" as "failed" }),
    ).rejects.toMatchObject({ status: 400, param: "filter", code: "invalid_value" });
  });
});

describe("a store", () => {
  test("is created with files, and in progress until they are done", async () => {
    const fileIds = [await uploadText(client, "One."), await uploadText(client, "Two.")];
    const store = await client.vectorStores.create({
      file_ids: fileIds,
      chunking_strategy: { type: "static", static: { max_chunk_size_tokens: 100, chunk_overlap_tokens: 50 } },
    });
    expect(store).toMatchObject({ status: "in_progress", file_counts: { in_progress: 2, total: 2 } });
    for (const fileId of fileIds) {
      expect(await client.vectorStores.files.poll(store.id, fileId)).toMatchObject({
        status: "completed",
        chunking_strategy: { static: { max_chunk_size_tokens: 100 } },
      });
    }
    expect(await client.vectorStores.retrieve(store.id)).toMatchObject({ status: "completed" });
    await expect(client.vectorStores.create({ name: "x", file_ids: ["file-none"] })).rejects.toMatchObject({
      status: 404,
      param: "file_ids[0]",
    });
    const file_ids = Array.from({ length: 501 }, (_, index) => `file-${index}`);
    await expect(client.vectorStores.create({ file_ids })).rejects.toMatchObject({ status: 400 });
  });

  test("is deleted with its files' rows, and the files stay", async () => {
    const fileId = await uploadText(client, "Kept.");
    const { id } = await client.vectorStores.create({ file_ids: [fileId] });
    await client.vectorStores.delete(id);
    await expect(client.vectorStores.files.list(id)).rejects.toMatchObject({ status: 404 });
    expect(await client.files.retrieve(fileId)).toMatchObject({ id: fileId });
    const { rows } = await server.database.pool.query(
      "select from pgquiver_vector_store_files where vector_store_id = $1",
      [id],
    );
    expect(rows).toEqual([]);
  });

  test("that has expired takes no file", async () => {
    const storeId = await newStore({ expires_after: { anchor: "last_active_at", days: 1 } });
    const fileId = await uploadText(client, "Late.");
    await server.database.pool.query(
      "update vector_stores set expires_at = now() - interval '1 s' where id = $1",
      [storeId],
    );
    const refusal = { status: 400, error: { message: `Vector store '${storeId}' has expired.` } };
    await expect(client.vectorStores.files.create(storeId, { file_id: fileId })).rejects.toMatchObject(
      refusal,
    );
    await expect(
      client.vectorStores.fileBatches.create(storeId, { file_ids: [fileId] }),
    ).rejects.toMatchObject(refusal);
  });
});

describe("chunking and attributes are checked", () => {
  test.each([
    [
      { type: "static", static: { max_chunk_size_tokens: 99, chunk_overlap_tokens: 0 } },
      "static.max_chunk_size_tokens",
    ],
    [
      { type: "static", static: { max_chunk_size_tokens: 4097, chunk_overlap_tokens: 0 } },
      "static.max_chunk_size_tokens",
    ],
    [
      { type: "static", static: { max_chunk_size_tokens: 100, chunk_overlap_tokens: 51 } },
      "static.chunk_overlap_tokens",
    ],
    [{ type: "static" }, "static"],
    [{ type: "semantic" }, "type"],
    [{}, "type"],
    // An example of OpenAI's documentation, which its own service refuses.
    [{ type: "static", max_chunk_size_tokens: 1200, chunk_overlap_tokens: 200 }, "max_chunk_size_tokens"],
    [{ chunk_size: 0 }, "chunk_size"],
    [{ chunk_size: 100, chunk_overlap: 51 }, "chunk_overlap"],
  ])("%j", async (chunking_strategy, param) => {
    const storeId = await newStore();
    await expect(
      client.post(`/vector_stores/${storeId}/files`, { body: { file_id: "file-a", chunking_strategy } }),
    ).rejects.toMatchObject({ status: 400, param: `chunking_strategy.${param}` });
  });

  test.each([
    [Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`k${index}`, 1])), "attributes"],
    [{ ["k".repeat(65)]: 1 }, "attributes"],
    [{ k: "v".repeat(513) }, "attributes.k"],
    [{ k: null }, "attributes.k"],
    [{ k: { nested: true } }, "attributes.k"],
    [{ "": 1 }, "attributes"],
    [{ k: "nul\0" }, "attributes.k"],
    [{ k: "\ud800" }, "attributes.k"],
  ])("%j", async (attributes, param) => {
    const storeId = await newStore();
    await expect(
      client.post(`/vector_stores/${storeId}/files`, { body: { file_id: "file-a", attributes } }),
    ).rejects.toMatchObject({ status: 400, param });
  });
});

describe("LiteLLM", () => {
  test("attaches with its own chunking, and nulls for what is not given", async () => {
    const storeId = await newStore();
    const fileId = await uploadText(client, "abcdefghij ".repeat(40));
    const body = {
      file_id: fileId,
      attributes: null,
      chunking_strategy: { chunk_size: 110, chunk_overlap: 20, separators: ["\n"] },
    };
    const attached = await client.post<{ chunking_strategy: object; attributes: null }>(
      `/vector_stores/${storeId}/files`,
      { body },
    );
    expect(attached).toMatchObject({ chunking_strategy: { type: "other", static: null }, attributes: null });
    const done = await client.vectorStores.files.poll(storeId, fileId);
    expect(done).toMatchObject({ status: "completed", chunking_strategy: { type: "other" } });
    const { data } = await client.vectorStores.files.content(fileId, { vector_store_id: storeId });
    expect(data.length).toBeGreaterThan(3);
    for (const { text = "" } of data) expect(text.length).toBeLessThanOrEqual(110);
    const second = await uploadText(client, "Second.");
    await client.post(`/vector_stores/${storeId}/files`, {
      body: { file_id: second, attributes: null, chunking_strategy: null },
    });
    expect(await client.vectorStores.files.poll(storeId, second)).toMatchObject({
      status: "completed",
      chunking_strategy: AUTO,
    });
  });
});
