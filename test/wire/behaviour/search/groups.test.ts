import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRandom, makeVectors } from "../../../../bench/support/random.ts";
import { promoteStore } from "../../../../src/indexes/worker.ts";
import { type Json, type Reply } from "../../../support/clients/client.ts";
import { protocols } from "../../../support/clients/clients.ts";
import { TEST_INDEXES } from "../../../support/stores/index-store.ts";
import { startServer } from "../../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

const made = makeVectors(createRandom(3), 401, { dimensions: 8, clusters: 5 });
const [target, ...vectors] = made.map((vector) => Array.from(Float32Array.from(vector))) as [
  number[],
  ...number[][],
];
const nameOf = (row: number) => `r${String(row).padStart(3, "0")}`;
/** The file of a row; every tenth row has none. */
const fileOf = (row: number) => (row % 10 === 0 ? undefined : `file-${row % 37}`);
const rows = vectors.map((embedding, row) => ({
  id: nameOf(row),
  content: `text ${row}`,
  embedding,
  metadata: { even: row % 2 === 0 },
}));

/** The similarity of scores, 1 - cosine distance / 2. */
function scoreOf(vector: number[]): number {
  const multiply = (x: number[], y: number[]) =>
    x.reduce((sum, value, index) => sum + value * (y[index] as number), 0);
  return (1 + multiply(vector, target) / Math.sqrt(multiply(vector, vector) * multiply(target, target))) / 2;
}

const ranked = [...vectors.keys()].toSorted(
  (a, b) => scoreOf(vectors[b] as number[]) - scoreOf(vectors[a] as number[]),
);

/** The best `size` rows of each of the best `filesMax` files, by definition. */
function groupByDefinition(filesMax: number, size: number, among = ranked): string[] {
  const files = [...new Set(among.map((row) => fileOf(row) ?? nameOf(row)))].slice(0, filesMax);
  const best = files.flatMap((file) =>
    among.filter((row) => (fileOf(row) ?? nameOf(row)) === file).slice(0, size),
  );
  return among.filter((row) => best.includes(row)).map(nameOf);
}

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let storeId: string;
  let ownId: string;
  async function createStore(
    embeddings: { id: string; content: string; embedding?: number[] }[],
    file: (row: number) => string | undefined,
  ): Promise<string> {
    const { id } = await call("VectorStoreService/CreateVectorStore");
    await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: id, embeddings });
    await pool.query(
      `update embeddings set file_id = file from unnest($2::text[], $3::text[]) as given (row, file)
       where vector_store_id = $1 and id = row`,
      [id, embeddings.map((row) => row.id), embeddings.map((_, row) => file(row) ?? null)],
    );
    return id;
  }
  beforeAll(async () => {
    [storeId, ownId] = await Promise.all([createStore(rows, fileOf), createStore(rows, fileOf)]);
    await promoteStore(server.database, ownId, TEST_INDEXES);
  });

  const search = (request: Json = {}): Promise<Reply> =>
    call("SearchService/Search", {
      vector_store_id: storeId,
      embedding: target,
      group_by: "file",
      ...request,
    });
  const idsOf = (reply: Reply): string[] => reply.data.map(({ id }: { id: string }) => id);

  test.each([
    [10, 1],
    [5, 3],
    [30, 20],
    [100, 10],
  ])("gives of %i files the best %i chunks", async (filesMax, size) => {
    const reply = await search({ limit: filesMax, group_size: size });
    expect(idsOf(reply)).toEqual(groupByDefinition(filesMax, size));
    expect(reply).toMatchObject({ has_more: false, next_page: null });
    expect(reply.statistics).toMatchObject({ method: "exact", complete: true });
  });

  test("gives one of each unless told, best first, with the scores of a plain search", async () => {
    const plain = await search({ group_by: undefined, limit: 400 });
    const reply = await search();
    expect(idsOf(reply)).toEqual(groupByDefinition(10, 1));
    expect(reply.data).toEqual(plain.data.filter(({ id }: Reply) => idsOf(reply).includes(id)));
  });

  test("heeds the filter and the threshold", async () => {
    const even = ranked.filter((row) => row % 2 === 0);
    const filters = { type: "eq", key: "even", value: true };
    for (const vector_store_id of [storeId, ownId]) {
      const reply = await search({ vector_store_id, filters, max_num_results: 7, group_size: 2 });
      expect(idsOf(reply)).toEqual(groupByDefinition(7, 2, even));
    }
    const score_threshold = scoreOf(vectors[ranked[20] as number] as number[]) - 1e-6;
    const { data } = await search({ limit: 30, group_size: 3, ranking_options: { score_threshold } });
    expect(idsOf({ data } as Reply)).toEqual(groupByDefinition(30, 3, ranked.slice(0, 21)));
  });

  test("takes the index, and all rows where the index has too few files", async () => {
    const few = await search({ vector_store_id: ownId, max_num_results: 5, ef_search: 400, group_size: 2 });
    expect(few.statistics).toMatchObject({ method: "index", complete: true });
    const candidates = ranked.slice(0, 100);
    expect(idsOf(few)).toEqual(groupByDefinition(5, 2, candidates));
    // A hundred chunks of one file are nearer than those of the others.
    const embeddings = [...Array(150).keys()].map((row) => ({
      id: nameOf(row),
      content: "text",
      embedding: row < 145 ? [1, row / 10_000] : [row - 144, 1],
    }));
    const id = await createStore(embeddings, (row) => (row < 145 ? "book" : `file-${row}`));
    await promoteStore(server.database, id, TEST_INDEXES);
    const nearest = { vector_store_id: id, embedding: [1, 0], max_num_results: 3, group_size: 2 };
    const reply = await search(nearest);
    expect(reply.statistics).toMatchObject({ method: "exact", complete: true });
    expect(idsOf(reply)).toEqual(["r000", "r001", "r149", "r148"]);
  });

  test("groups what several texts find", async () => {
    const contents = ["whales sing", "whales sleep", "whales dive", "owls hunt", "owls sleep"];
    const embeddings = contents.map((content, row) => ({ id: nameOf(row), content }));
    const id = await createStore(embeddings, (row) => (row < 3 ? "whales" : "owls"));
    const query = ["whales sing", "owls hunt"];
    const texts = { vector_store_id: id, embedding: [], query };
    expect(idsOf(await search(texts)).toSorted()).toEqual(["r000", "r003"]);
    expect(idsOf(await search({ ...texts, group_size: 2 }))).toHaveLength(4);
    expect(idsOf(await search({ ...texts, max_num_results: 1 }))).toHaveLength(1);
  });

  test("groups the best chunks of a hybrid search, and says when these are of too few files", async () => {
    const embeddings = [...Array(120).keys()].map((row) => ({
      id: nameOf(row),
      content: row < 110 ? "grey whales" : "whales among many other animals of the sea",
      embedding: [1, row / 1_000],
    }));
    const id = await createStore(embeddings, (row) => (row < 110 ? "book" : `file-${row}`));
    const hybrid = (embedding_weight: number, request: Json) =>
      search({
        vector_store_id: id,
        embedding: embedding_weight === 0 ? [] : [1, 0],
        query: "whales",
        ranking_options: { hybrid_search: { embedding_weight, text_weight: 1 } },
        ...request,
      });
    for (const weight of [0, 1]) {
      const one = await hybrid(weight, { max_num_results: 1, group_size: 2 });
      expect(idsOf(one)).toEqual(["r000", "r001"]);
      expect(one.statistics.complete).toBe(true);
      const short = await hybrid(weight, { max_num_results: 3 });
      expect(idsOf(short)).toEqual(["r000"]);
      expect(short.statistics.complete).toBe(false);
      const many = await hybrid(weight, { max_num_results: 40 });
      expect(idsOf(many)).toHaveLength(11);
      expect(many.statistics.complete).toBe(true);
    }
  });

  test("compares the best chunks of files for diversity, and keeps their files together", async () => {
    const embeddings = [
      [1, 0],
      [1, 0.01],
      [1, 0.02],
      [1, 1],
      [1, 1.1],
    ].map((embedding, row) => ({ id: nameOf(row), content: "text", embedding }));
    const id = await createStore(embeddings, (row) => ["a", "a", "b", "c", "c"][row]);
    const options = { vector_store_id: id, embedding: [1, 0], max_num_results: 2, group_size: 2 };
    expect(idsOf(await search(options))).toEqual(["r000", "r001", "r002"]);
    expect(idsOf(await search({ ...options, diversity: 0.6 }))).toEqual(["r000", "r001", "r003", "r004"]);
  });

  test("takes a file in several stores for one", async () => {
    const request = { embedding: target, max_num_results: 8, group_by: "file", group_size: 2 };
    const reply = await call("SearchService/SearchVectorStores", {
      ...request,
      vector_store_ids: [storeId, ownId],
    });
    const counts = new Map<string, number>();
    for (const { file_id, vector_store_id } of reply.data) {
      const file = file_id.startsWith("file-") ? file_id : `${vector_store_id} ${file_id}`;
      counts.set(file, (counts.get(file) ?? 0) + 1);
    }
    expect(counts.size).toBe(8);
    expect(Math.max(...counts.values())).toBe(2);
  });

  test("in a batch each search has its own", async () => {
    const searches = [1, 3].map((group_size) => ({ embedding: target, group_by: "file", group_size }));
    const { data } = await call("SearchService/BatchSearch", { vector_store_id: storeId, searches });
    expect(data.map(idsOf)).toEqual([groupByDefinition(10, 1), groupByDefinition(10, 3)]);
  });

  test.each<[string, Json, string]>([
    ["a size without groups", { group_by: undefined, group_size: 2 }, "group_by"],
    ["a size of 0", { group_size: 0 }, "group_size"],
    ["more than 1,000 results", { limit: 500, group_size: 3 }, "group_size"],
    ["more than 200 that differ", { limit: 70, group_size: 3, diversity: 0.1 }, "limit"],
    ["a page", { limit: 5, page: "AAAA" }, "page"],
  ])("refuses %s", async (_, request, param) => {
    await expect(search(request)).rejects.toMatchObject({ code: "invalid_argument", param });
  });
});
