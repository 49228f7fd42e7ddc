import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRandom, makeVectors } from "../../../../bench/support/random.ts";
import { promoteStore } from "../../../../src/indexes/worker.ts";
import { type Json, type Reply } from "../../../support/clients/client.ts";
import { protocols } from "../../../support/clients/clients.ts";
import { TEST_INDEXES } from "../../../support/stores/index-store.ts";
import { startServer } from "../../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

const DIMENSIONS = 16;
const made = makeVectors(createRandom(7), 301, { dimensions: DIMENSIONS, clusters: 5 });
const [target, ...vectors] = made.map((vector) => Array.from(Float32Array.from(vector))) as [
  number[],
  ...number[][],
];
const nameOf = (row: number) => `r${String(row).padStart(3, "0")}`;

/** The similarity of scores, 1 - cosine distance / 2. */
function compare(a: number[], b: number[]): number {
  const multiply = (x: number[], y: number[]) =>
    x.reduce((sum, value, index) => sum + value * (y[index] as number), 0);
  return (1 + multiply(a, b) / Math.sqrt(multiply(a, a) * multiply(b, b))) / 2;
}

/** Maximal marginal relevance by its definition, among the best `candidatesMax` vectors. */
function chooseByDefinition(diversity: number, resultsMax: number, candidatesMax: number): string[] {
  const candidates = vectors
    .map((vector, row) => ({ id: nameOf(row), vector, score: compare(target, vector) }))
    .toSorted((a, b) => b.score - a.score)
    .slice(0, candidatesMax);
  const chosen: typeof candidates = [];
  const valueOf = ({ vector, score }: (typeof candidates)[number]) =>
    (1 - diversity) * score - diversity * Math.max(0, ...chosen.map((one) => compare(one.vector, vector)));
  while (chosen.length < resultsMax && candidates.length > 0) {
    const values = candidates.map(valueOf);
    chosen.push(...candidates.splice(values.indexOf(Math.max(...values)), 1));
  }
  return chosen.map(({ id }) => id);
}

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let storeId: string;
  let ownId: string;
  async function createStore(embeddings: Json[]): Promise<string> {
    const { id } = await call("VectorStoreService/CreateVectorStore");
    await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: id, embeddings });
    return id;
  }
  beforeAll(async () => {
    const rows = vectors.map((embedding, row) => ({ id: nameOf(row), content: `text ${row}`, embedding }));
    [storeId, ownId] = await Promise.all([createStore(rows), createStore(rows)]);
    await promoteStore(server.database, ownId, TEST_INDEXES);
  });

  const search = (request: Json = {}): Promise<Reply> =>
    call("SearchService/Search", { vector_store_id: storeId, embedding: target, ...request });
  const idsOf = (reply: Reply): string[] => reply.data.map(({ id }: { id: string }) => id);

  test.each([
    [0.3, 10, 40],
    [0.7, 3, 20],
    [1, 20, 80],
    [0.5, 50, 200],
  ])("with %d, %i results are chosen of %i candidates by their definition", async (diversity, k, of) => {
    const reply = await search({ diversity, max_num_results: k });
    expect(idsOf(reply)).toEqual(chooseByDefinition(diversity, k, of));
    expect(reply).toMatchObject({ has_more: false, statistics: { method: "exact", complete: true } });
    expect(reply.statistics.stages).toContainEqual({
      name: "diversify",
      count: of,
      duration_ms: expect.any(Number),
    });
  });

  test("the results keep their scores", async () => {
    const plain = await search({ limit: 300 });
    const scores = new Map(plain.data.map(({ id, score }: Reply) => [id, score]));
    const { data } = await search({ diversity: 0.9 });
    for (const { id, score } of data) expect(score).toBe(scores.get(id));
    expect(idsOf({ data } as Reply)).not.toEqual(idsOf(plain).slice(0, 10));
  });

  test("with 0 they are the best ones, and have pages", async () => {
    const reply = await search({ diversity: 0, limit: 10 });
    expect(reply.data).toEqual((await search({ max_num_results: 10 })).data);
    expect(reply).toMatchObject({ has_more: true, next_page: expect.any(String) });
    expect(reply.statistics.stages).toHaveLength(1);
  });

  test("it is the same through the index of the store", async () => {
    const reply = await search({ vector_store_id: ownId, diversity: 0.6, ef_search: 300 });
    expect(reply.statistics).toMatchObject({ method: "index", complete: true });
    expect(idsOf(reply)).toEqual(chooseByDefinition(0.6, 10, 40));
  });

  test("what is below the threshold takes no place", async () => {
    const plain = await search({ limit: 40 });
    const score_threshold = plain.data[14].score as number;
    const reply = await search({ diversity: 1, ranking_options: { score_threshold } });
    expect(reply.data).toHaveLength(10);
    expect(idsOf(plain).slice(0, 15)).toEqual(expect.arrayContaining(idsOf(reply)));
  });

  test("twins are chosen once, for a text, for words and for both", async () => {
    const texts = ["grey whales sing", "grey whales sing", "grey whales sleep at noon"];
    const id = await createStore(texts.map((content, index) => ({ id: `t${index}`, content })));
    const options = { vector_store_id: id, embedding: [], query: "grey whales sing", max_num_results: 2 };
    const hybrid = (embedding_weight: number) => ({
      ranking_options: { hybrid_search: { embedding_weight, text_weight: 1 } },
    });
    for (const ranking of [{}, hybrid(0), hybrid(1)]) {
      expect(idsOf(await search({ ...options, ...ranking }))).toEqual(["t0", "t1"]);
      expect(idsOf(await search({ ...options, ...ranking, diversity: 0.5 }))).toEqual(["t0", "t2"]);
    }
    const query = ["grey whales sing", "grey whales"];
    expect(idsOf(await search({ ...options, query, diversity: 0.5 }))).toEqual(["t0", "t2"]);
  });

  test("a zero vector has no direction, and can be chosen", async () => {
    const id = await createStore(
      [1, 2].map((row) => ({ id: nameOf(row), content: "text", embedding: [1, row] })),
    );
    await server.database.pool.query(
      "update embeddings set embedding = '[0,0]' where vector_store_id = $1 and id = $2",
      [id, nameOf(2)],
    );
    const reply = await search({ vector_store_id: id, embedding: [1, 0], diversity: 0.5 });
    expect(idsOf(reply)).toEqual([nameOf(1), nameOf(2)]);
  });

  test("in a batch each search has its own", async () => {
    const asked = [0, 0.3, 1].map((diversity) => ({ embedding: target, diversity, max_num_results: 20 }));
    const { data } = await call("SearchService/BatchSearch", { vector_store_id: storeId, searches: asked });
    expect(data.map(idsOf)).toEqual([0, 0.3, 1].map((diversity) => chooseByDefinition(diversity, 20, 80)));
  });

  test("of several stores it compares the results of all", async () => {
    const stores = { vector_store_ids: [storeId, ownId], embedding: target, max_num_results: 2 };
    const { data } = await call("SearchService/SearchVectorStores", stores);
    expect(data.map(({ id }: Reply) => id)).toEqual([idsOf({ data })[0], idsOf({ data })[0]]);
    const differing = await call("SearchService/SearchVectorStores", { ...stores, diversity: 0.9 });
    expect(new Set(idsOf(differing)).size).toBe(2);
  });

  test("refuses stores whose vectors cannot be compared", async () => {
    const words = await createStore([{ id: "a", content: "a text" }]);
    const dimensions = (
      await call("EmbeddingService/GetEmbedding", { vector_store_id: words, embedding_id: "a" })
    ).embedding.length;
    const other = await createStore([
      { id: "b", content: "b", embedding: Array.from({ length: dimensions }, (_, index) => index + 1) },
    ]);
    const stores = { vector_store_ids: [words, other], query: "a text", diversity: 0.5 };
    const refused = call("SearchService/SearchVectorStores", stores);
    await expect(refused).rejects.toMatchObject({ code: "invalid_argument", param: "diversity" });
  });

  test.each<[string, Json, string]>([
    ["less than 0", { diversity: -0.1 }, "diversity"],
    ["more than 1", { diversity: 1.1 }, "diversity"],
    ["more than 200 results", { diversity: 0.5, limit: 201 }, "limit"],
    ["a page", { diversity: 0.5, limit: 5, page: "AAAA" }, "page"],
  ])("refuses %s", async (_, request, param) => {
    await expect(search(request)).rejects.toMatchObject({ code: "invalid_argument", param });
  });
});
