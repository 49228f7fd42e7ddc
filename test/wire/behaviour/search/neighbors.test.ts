import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { promoteStore } from "../../../../src/indexes/worker.ts";
import { type Json, type Reply } from "../../../support/clients/client.ts";
import { protocols } from "../../../support/clients/clients.ts";
import { grpcByGrpcJs } from "../../../support/clients/grpc-client.ts";
import { TEST_INDEXES } from "../../../support/stores/index-store.ts";
import { restOverHttp1 } from "../../../support/clients/rest-client.ts";
import { startServer } from "../../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

const CHUNKS = 30;

/** What ends a chunk of a file and begins the next. */
const shared = (file: string, place: number) => `what ${file} says between ${place - 1} and ${place}. `;
const textOf = (file: string, place: number) =>
  `${place === 0 ? "" : shared(file, place)}Chunk ${place} of ${file}. ${shared(file, place + 1)}`;

/** The texts of chunks, each piece once. */
function passageOf(file: string, first: number, last: number): Json {
  const texts = [...Array(last - first + 1).keys()].map((index) => {
    const text = textOf(file, first + index);
    return index === 0 ? text : text.slice(shared(file, first + index).length);
  });
  return { text: texts.join(""), first_chunk: first, last_chunk: last };
}

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let storeId: string;
  let ownId: string;
  /** Creates a store with the chunks of files, and one embedding that is of none. */
  async function createStore(request: Json = {}, readersOf?: (place: number) => string[]): Promise<string> {
    const { id } = await call("VectorStoreService/CreateVectorStore", request);
    const embeddings = ["a", "b"].flatMap((file, number) =>
      [...Array(CHUNKS).keys()].map((place) => ({
        id: `${file}_${place}`,
        content: textOf(file, place),
        embedding: [number === 0 ? 1 : -1, place + 1],
        metadata: { file, place, ...(readersOf && { readers: readersOf(place) }) },
      })),
    );
    embeddings.push({ id: "alone", content: "alone", embedding: [0, -1], metadata: { file: "", place: 0 } });
    await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: id, embeddings });
    await pool.query(
      `update embeddings set file_id = metadata ->> 'file', chunk_index = (metadata ->> 'place')::int
       where vector_store_id = $1 and id <> 'alone'`,
      [id],
    );
    return id;
  }
  beforeAll(async () => {
    [storeId, ownId] = await Promise.all([createStore(), createStore()]);
    await promoteStore(server.database, ownId, TEST_INDEXES);
  });

  const search = (request: Json = {}): Promise<Reply> =>
    call("SearchService/Search", { vector_store_id: storeId, embedding: [1, 11], ...request });
  const passagesOf = (reply: Reply): unknown[] => reply.data.map(({ passage }: Reply) => passage);

  test("gives the chunks before and after, each piece of text once", async () => {
    for (const vector_store_id of [storeId, ownId]) {
      const reply = await search({ vector_store_id, max_num_results: 3, neighbors: 2 });
      expect(reply.data.map(({ id }: Reply) => id)).toEqual(["a_10", "a_11", "a_9"]);
      expect(passagesOf(reply)).toEqual([
        passageOf("a", 8, 12),
        passageOf("a", 9, 13),
        passageOf("a", 7, 11),
      ]);
      expect(reply.data[0].content).toEqual([{ type: "text", text: textOf("a", 10) }]);
      expect(reply.statistics.stages).toContainEqual({
        name: "passages",
        count: 3,
        duration_ms: expect.any(Number),
      });
    }
  });

  test("ends at the ends of the file, and has none without a file, or unless asked for", async () => {
    const first = await search({ embedding: [1, 1], max_num_results: 1, neighbors: 3 });
    expect(passagesOf(first)).toEqual([passageOf("a", 0, 3)]);
    const last = await search({
      filters: { type: "eq", key: "place", value: CHUNKS - 1 },
      neighbors: 10,
      max_num_results: 2,
    });
    expect(passagesOf(last)).toEqual([passageOf("a", 19, 29), passageOf("b", 19, 29)]);
    const alone = { embedding: [0, -1], max_num_results: 1 };
    expect((await search({ ...alone, neighbors: 1 })).data[0]).toMatchObject({ id: "alone", passage: null });
    expect(passagesOf(await search())).toEqual(Array(10).fill(null));
  });

  test("ends where a chunk is missing", async () => {
    const id = await createStore();
    await pool.query("delete from embeddings where vector_store_id = $1 and id = 'a_11'", [id]);
    const reply = await search({ vector_store_id: id, max_num_results: 1, neighbors: 3 });
    expect(passagesOf(reply)).toEqual([passageOf("a", 7, 10)]);
  });

  test("comes without the text of the result, with groups, with diversity and for words", async () => {
    const chosen = { neighbors: 1, max_num_results: 2, group_by: "file", include: ["metadata"] };
    for (const request of [{}, { diversity: 0.1 }]) {
      const { data } = await search({ ...chosen, ...request });
      expect(data.map(({ id }: Reply) => id)).toEqual(["a_10", expect.stringMatching(/^b_/)]);
      expect(data[0]).toMatchObject({ content: [], passage: passageOf("a", 9, 11) });
    }
    const byWords = await search({
      embedding: [],
      query: "chunk 10 of a",
      neighbors: 1,
      max_num_results: 1,
      filters: {
        type: "and",
        filters: ["a", 10].map((value, index) => ({ type: "eq", key: ["file", "place"][index], value })),
      },
      ranking_options: { hybrid_search: { embedding_weight: 0, text_weight: 1 } },
    });
    expect(passagesOf(byWords)).toEqual([passageOf("a", 9, 11)]);
  });

  test("comes in a batch, and of several stores", async () => {
    const searches = [0, 1, 2].map((neighbors) => ({ embedding: [1, 11], max_num_results: 1, neighbors }));
    const batch = await call("SearchService/BatchSearch", { vector_store_id: storeId, searches });
    expect(batch.data.map((reply: Reply) => reply.data[0].passage)).toEqual([
      null,
      passageOf("a", 9, 11),
      passageOf("a", 8, 12),
    ]);
    const stores = { vector_store_ids: [storeId, ownId], embedding: [1, 11], max_num_results: 2 };
    const several = await call("SearchService/SearchVectorStores", { ...stores, neighbors: 1 });
    expect(passagesOf(several)).toEqual([passageOf("a", 9, 11), passageOf("a", 9, 11)]);
    expect(new Set(several.data.map((hit: Reply) => hit.vector_store_id)).size).toBe(2);
  });

  test("has only chunks that the readers may read", async () => {
    const id = await createStore({}, (place) => (place === 12 ? ["you"] : ["me", "you"]));
    const request = { vector_store_id: id, max_num_results: 1, neighbors: 3 };
    const mine = await search({ ...request, readers: { any_of: ["me"] } });
    expect(passagesOf(mine)).toEqual([passageOf("a", 7, 11)]);
    const yours = await search({ ...request, readers: { any_of: ["you"] } });
    expect(passagesOf(yours)).toEqual([passageOf("a", 7, 13)]);
  });

  test.each<[string, Json]>([
    ["-1", { neighbors: -1 }],
    ["11", { neighbors: 11 }],
    ["more than 1,050 chunks", { neighbors: 10, limit: 51 }],
    [
      "more than 1,050 chunks of groups",
      { neighbors: 10, max_num_results: 20, group_by: "file", group_size: 3 },
    ],
  ])("refuses %s", async (_, request) => {
    await expect(search(request)).rejects.toMatchObject({ code: "invalid_argument", param: "neighbors" });
  });
});

describe.each([restOverHttp1, grpcByGrpcJs])("over $name, large", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  test("ends a page before its passages exceed 3 MiB, and refuses more than 50 MiB", async () => {
    const { id } = await call("VectorStoreService/CreateVectorStore");
    const toRow = (place: number) => ({
      id: `f_${place}`,
      content: `${place} ${"x".repeat(60_000)}`,
      embedding: [1, place / 100],
    });
    const embeddings = [...Array(100).keys()].map(toRow);
    for (let row = 0; row < 100; row += 10)
      await call("EmbeddingService/BatchCreateEmbeddings", {
        vector_store_id: id,
        embeddings: embeddings.slice(row, row + 10),
      });
    await pool.query(
      "update embeddings set file_id = 'f', chunk_index = substr(id, 3)::int where vector_store_id = $1",
      [id],
    );
    const all = { vector_store_id: id, embedding: [1, 0], limit: 60, neighbors: 1, include: ["metadata"] };
    const ids: string[] = [];
    for (let page: string | undefined; ;) {
      const reply = await call("SearchService/Search", { ...all, ...(page !== undefined && { page }) });
      expect(reply.data.length).toBeLessThanOrEqual(18);
      ids.push(...reply.data.map((hit: Reply) => hit.id));
      if (!reply.has_more) break;
      page = reply.next_page;
    }
    expect(ids).toEqual(embeddings.map((row) => row.id));
    const tooMany = call("SearchService/Search", { ...all, limit: 50, neighbors: 10 });
    await expect(tooMany).rejects.toMatchObject({ code: "resource_exhausted" });
  });
});
