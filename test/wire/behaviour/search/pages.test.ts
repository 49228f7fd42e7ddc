import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Json, type Reply } from "../../../support/clients/client.ts";
import { protocols } from "../../../support/clients/clients.ts";
import { startServer } from "../../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

const ROWS = 1_100;
/** Rows with the same vector, whose order is that of their ids. */
const TWINS = 7;

/** A vector whose angle to [1, 0] grows with the number. */
function vectorOf(number: number): number[] {
  const angle = (Math.PI * Math.floor(number / TWINS)) / ROWS;
  return [Math.cos(angle), Math.sin(angle)];
}

const nameOf = (number: number) => `r${String(number).padStart(6, "0")}`;
const toRow = (number: number) => ({
  id: nameOf(number),
  content: "text",
  embedding: vectorOf(number),
  metadata: { even: number % 2 === 0 },
});
const range = (end: number) => Array.from({ length: end }, (_, number) => number);

describe.each(protocols)("over $name", (protocol) => {
  const { call, ...client } = protocol.connect(server);
  afterAll(() => client[Symbol.asyncDispose]());

  let storeId: string;
  beforeAll(async () => {
    storeId = await createStore(range(ROWS).toReversed().map(toRow));
  });

  async function createStore(embeddings: Json[]): Promise<string> {
    const { id } = await call("VectorStoreService/CreateVectorStore");
    await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: id, embeddings });
    return id;
  }

  const search = (request: Json = {}): Promise<Reply> =>
    call("SearchService/Search", { vector_store_id: storeId, embedding: [1, 0], ...request });
  const idsOf = (reply: Reply): string[] => reply.data.map(({ id }: { id: string }) => id);

  /** The ids of every page; `between` runs after each. */
  async function walk(request: Json, between: () => Promise<void> = async () => {}): Promise<string[]> {
    const ids: string[] = [];
    for (let page: string | undefined; ;) {
      const reply = await search({ ...request, ...(page !== undefined && { page }) });
      ids.push(...idsOf(reply));
      expect(reply.has_more).toBe(reply.next_page !== null);
      if (!reply.has_more) return ids;
      page = reply.next_page;
      await between();
    }
  }

  test("gives up to 1,000 results, and the rest on the next page", async () => {
    const first = await search({ limit: 1_000 });
    expect(idsOf(first)).toEqual(range(1_000).map(nameOf));
    expect(first).toMatchObject({ has_more: true, statistics: { method: "exact", complete: true } });
    const second = await search({ limit: 1_000, page: first.next_page });
    expect(idsOf(second)).toEqual(range(ROWS).slice(1_000).map(nameOf));
    expect(second).toMatchObject({ has_more: false, next_page: null });
  });

  test("has a next page only where one is left, and only with limit", async () => {
    const filters = { type: "eq", key: "even", value: true };
    expect(await search({ filters, limit: ROWS / 2 })).toMatchObject({ has_more: false, next_page: null });
    expect(await search({ filters, limit: ROWS / 2 - 1 })).toMatchObject({ has_more: true });
    expect(await search({ max_num_results: 5 })).toMatchObject({ has_more: false, next_page: null });
  });

  test("goes on under a filter and above a threshold", async () => {
    const filters = { type: "eq", key: "even", value: true };
    const ids = await walk({ filters, limit: 90, ranking_options: { score_threshold: 0.98 } });
    const whole = range(ROWS).filter(
      (number) => number % 2 === 0 && (1 + (vectorOf(number)[0] as number)) / 2 >= 0.98,
    );
    expect(whole.length).toBeGreaterThan(90);
    expect(ids).toEqual(whole.map(nameOf));
  });

  test("goes on for a text, and in a batch", async () => {
    const texts = await createStore(range(12).map((n) => ({ id: `t${n}`, content: `the number ${n}` })));
    const first = await search({ vector_store_id: texts, embedding: [], query: "number 7", limit: 8 });
    const rest = { query: "number 7", limit: 8, page: first.next_page };
    const { data } = await call("SearchService/BatchSearch", { vector_store_id: texts, searches: [rest] });
    expect(first.data[0].id).toBe("t7");
    expect([...idsOf(first), ...idsOf(data[0])].toSorted()).toEqual(
      range(12)
        .map((n) => `t${n}`)
        .toSorted(),
    );
  });

  test("ends a page before its texts exceed 3 MiB, and goes on", async () => {
    const large = await createStore(
      range(60).map((number) => ({ ...toRow(number), content: "x".repeat(120_000) })),
    );
    const first = await search({ vector_store_id: large, limit: 60 });
    expect(first.data.length).toBeLessThan(30);
    expect(await walk({ vector_store_id: large, limit: 60 })).toEqual(range(60).map(nameOf));
  });

  test("gives no row twice and misses none while others come and go", async () => {
    const number = fc.integer({ min: 0, max: 1_000 });
    const change = fc.record({ added: fc.uniqueArray(number, { maxLength: 5 }), removed: number });
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(number, { minLength: 20, maxLength: 60 }),
        fc.array(change, { minLength: 3, maxLength: 6 }),
        fc.integer({ min: 3, max: 20 }),
        async (there, changes, limit) => {
          const vectorStoreId = await createStore(there.map(toRow));
          const stays = new Set(there.map(nameOf));
          let step = 0;
          const ids = await walk({ vector_store_id: vectorStoreId, limit }, async () => {
            const next = changes[step++];
            if (next === undefined) return;
            const added = next.added.map((each) => ({ ...toRow(each), id: `${nameOf(each)}-${step}` }));
            const removed = there[next.removed % there.length] as number;
            await Promise.all([
              added.length > 0 &&
                call("EmbeddingService/BatchCreateEmbeddings", {
                  vector_store_id: vectorStoreId,
                  embeddings: added,
                }),
              stays.delete(nameOf(removed)) &&
                call("EmbeddingService/DeleteEmbedding", {
                  vector_store_id: vectorStoreId,
                  embedding_id: nameOf(removed),
                }),
            ]);
          });
          expect(new Set(ids).size).toBe(ids.length);
          expect(ids.filter((id) => stays.has(id)).toSorted()).toEqual([...stays].toSorted());
        },
      ),
      { numRuns: 4 },
    );
  });

  test.each<[string, Json, string]>([
    ["limit 0", { limit: 0 }, "limit"],
    ["limit -1", { limit: -1 }, "limit"],
    ["two names of the number of results", { limit: 5, max_num_results: 5 }, "limit"],
    ["a page without limit", { page: "AAAA" }, "limit"],
    ["a page that is none", { limit: 5, page: "no page" }, "page"],
    ["an empty page", { limit: 5, page: "" }, "page"],
    ["a page of several texts", { limit: 5, page: "AAAA", embedding: [], query: ["a", "b"] }, "page"],
    [
      "a page of a hybrid search",
      {
        limit: 5,
        page: "AAAA",
        query: "a",
        ranking_options: { hybrid_search: { embedding_weight: 1, text_weight: 1 } },
      },
      "page",
    ],
  ])("refuses %s", async (_, request, param) => {
    await expect(search(request)).rejects.toMatchObject({ code: "invalid_argument", param });
  });

  test.each<[string, Json]>([
    ["vector", { embedding: [0, 1] }],
    ["filter", { filters: { type: "eq", key: "even", value: true } }],
    ["threshold", { ranking_options: { score_threshold: 0.1 } }],
    ["accuracy", { exact: true }],
    ["readers", { readers: { any_of: ["me"] } }],
  ])("refuses the page of a search with another %s", async (_, other) => {
    const { next_page: page } = await search({ limit: 5 });
    expect(idsOf(await search({ limit: 7, page }))).toEqual(range(12).slice(5).map(nameOf));
    const foreign = search({ limit: 5, page, ...other });
    await expect(foreign).rejects.toMatchObject({ code: "invalid_argument", param: "page" });
  });
});
