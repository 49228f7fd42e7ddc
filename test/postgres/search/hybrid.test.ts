// Hybrid search against ranks worked out by hand, in the shared table and in a store with indexes of its own.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { promoteStore } from "../../../src/indexes/worker.ts";
import { encodeVector } from "../../../src/postgres/copy.ts";
import type { Filter } from "../../../src/filters/sql.ts";
import { searchStore, type Findings } from "../../../src/search/run.ts";
import { findStore, type VectorStoreRow } from "../../../src/storage/stores.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { TEST_INDEXES } from "../../support/stores/index-store.ts";
import { makeQuery } from "../../support/stores/search-store.ts";

const database = await openTestDatabase();
const { pool, tables } = database;
afterAll(() => database.close());

/** The angles of their vectors to [1, 0] grow by the row. */
const rows: [id: string, content: string, kind: string][] = [
  ["a", "The harbour of Hamburg", "place"],
  ["b", "Ships leave the harbour at dawn, the harbour sleeps", "event"],
  ["c", "A fox in the snow", "animal"],
  ["d", "Two foxes, one fox's den", "animal"],
  ["e", "A ship, a harbour and a fox", "event"],
  ["f", "Nothing of interest", "event"],
];

interface Ask {
  keywords?: string;
  weights?: [vector: number, keywords: number];
  filter?: Filter;
  resultsMax?: number;
  language?: string;
}

describe.each([
  { place: "the shared table" },
  { place: "a table of its own" },
  { place: "a table of its own without words" },
])("in $place", ({ place }) => {
  let store: VectorStoreRow;
  beforeAll(async () => {
    await pool.query("insert into vector_stores (id, dimensions, embedding_count) values ($1, 2, $2)", [
      place,
      rows.length,
    ]);
    for (const [index, [id, content, kind]] of rows.entries()) {
      const angle = (index * Math.PI) / 8;
      await pool.query(
        "insert into embeddings (vector_store_id, id, content, embedding, metadata) values ($1, $2, $3, $4::vector, $5)",
        [place, id, content, JSON.stringify([Math.cos(angle), Math.sin(angle)]), { kind }],
      );
    }
    await pool.query(
      "insert into pgquiver_indexes (vector_store_id, keyword_index, due) values ($1, $2, false)",
      [place, !place.endsWith("without words")],
    );
    if (place !== "the shared table") await promoteStore(database, place, TEST_INDEXES);
    store = (await findStore(pool, tables, place)) as VectorStoreRow;
  });

  async function search({
    keywords,
    weights: [vectorWeight, keywordsWeight] = [1, 1],
    filter,
    resultsMax = 10,
    language = "english",
  }: Ask): Promise<Findings> {
    const vector = vectorWeight === 0 ? undefined : encodeVector(Float32Array.of(1, 0));
    const query = makeQuery({
      vector,
      fusion: { keywords, language, vectorWeight, keywordsWeight },
      filter,
      resultsMax,
    });
    const searching = {
      pool,
      isDistributed: database.citus !== undefined,
      settings: {},
      exactTimeoutMs: 60_000,
    };
    const outcome = await searchStore(searching, tables, store, query, new AbortController().signal);
    if (typeof outcome === "string") throw new Error(outcome);
    return outcome;
  }
  const idsOf = ({ hits }: Findings) => hits.map(({ id }) => id);
  /** The share of a hit that one search puts at this place. */
  const share = (position: number) => 61 / (60 + position);

  test("a row's score is its weighted reciprocal rank in both searches", async () => {
    // By vector a b c d e f; by keywords e, which has both words, then those with one: b twice, a, c, d.
    const found = await search({ keywords: "harbour foxes", weights: [3, 1] });
    const byVector = ["a", "b", "c", "d", "e", "f"];
    const byKeywords = ["e", ...idsOf(await search({ keywords: "harbour foxes", weights: [0, 1] })).slice(1)];
    expect(byKeywords.toSorted()).toEqual(["a", "b", "c", "d", "e"]);
    const expected = byVector
      .map((id, index) => {
        const position = byKeywords.indexOf(id) + 1;
        return { id, score: (3 * share(index + 1) + (position === 0 ? 0 : share(position))) / 4 };
      })
      .toSorted((a, b) => b.score - a.score || (a.id < b.id ? -1 : 1));
    expect(found.hits.map(({ id, score }) => ({ id, score: expect.closeTo(score, 12) }))).toEqual(expected);
  });

  test("the first of both searches has score 1", async () => {
    expect((await search({ keywords: "Hamburg's harbour" })).hits[0]).toMatchObject({ id: "a", score: 1 });
  });

  test("with one weight 0 only the other search counts", async () => {
    const byKeywords = await search({ keywords: "fox", weights: [0, 2] });
    expect(byKeywords).toMatchObject({ method: "keyword", isComplete: true });
    expect(byKeywords.hits.map(({ score }) => score)).toEqual(
      [1, 2, 3].map((position) => expect.closeTo(share(position), 12)),
    );
    // Twice the word before once.
    expect(idsOf(byKeywords)).toEqual(["d", "c", "e"]);
    const byVector = await search({ weights: [0.5, 0] });
    expect(idsOf(byVector)).toEqual(["a", "b", "c", "d", "e", "f"]);
    expect(byVector.hits.map(({ score }) => score)).toEqual(
      [1, 2, 3, 4, 5, 6].map((position) => expect.closeTo(share(position), 12)),
    );
  });

  test("rows with all words come before rows with any", async () => {
    expect(idsOf(await search({ keywords: "Which fox lives at the harbour?", weights: [0, 1] }))[0]).toBe(
      "e",
    );
    expect(
      idsOf(
        await search({ keywords: "Where do I find a foxes' den in Hamburg tonight?", weights: [0, 1] }),
      ).toSorted(),
    ).toEqual(["a", "c", "d", "e"]);
  });

  test("a filter holds for both searches", async () => {
    const filter: Filter = { type: "eq", key: "kind", value: "event" };
    expect(idsOf(await search({ keywords: "fox harbour", filter })).toSorted()).toEqual(["b", "e", "f"]);
    expect(idsOf(await search({ keywords: "fox harbour", filter, weights: [0, 1] }))).toEqual(["e", "b"]);
  });

  test("gives as many results as asked for, or as match", async () => {
    expect(idsOf(await search({ keywords: "fox", resultsMax: 2 }))).toHaveLength(2);
    expect(await search({ keywords: "fox" })).toMatchObject({ isComplete: true });
    expect(idsOf(await search({ keywords: "fox" }))).toHaveLength(6);
  });

  test.each(["the of and", "?!", "zebra", "'", "\\", "a & b | !c <-> 'd':*", "it's \\' odd"])(
    "the words %j, which no row has, find nothing and do no harm",
    async (keywords) => {
      expect(idsOf(await search({ keywords, weights: [0, 1] }))).toEqual([]);
      expect(idsOf(await search({ keywords }))).toEqual(["a", "b", "c", "d", "e", "f"]);
    },
  );
});

test("a store's language says which words are the same", async () => {
  for (const [id, language] of [
    ["german", "german"],
    ["plain", "simple"],
  ]) {
    await pool.query(
      "insert into vector_stores (id, dimensions, embedding_count, language) values ($1, 1, 1, $2)",
      [id, language],
    );
    await pool.query(
      "insert into embeddings (vector_store_id, id, content, embedding) values ($1, 'x', 'die Häuser am Hafen', '[1]')",
      [id],
    );
    for (const own of [false, true]) {
      if (own) await promoteStore(database, id as string, TEST_INDEXES);
      const store = (await findStore(pool, tables, id as string)) as VectorStoreRow;
      const query = makeQuery({
        fusion: { keywords: "Haus", language: language as string, vectorWeight: 0, keywordsWeight: 1 },
      });
      const searching = {
        pool,
        isDistributed: database.citus !== undefined,
        settings: {},
        exactTimeoutMs: 60_000,
      };
      const found = await searchStore(searching, tables, store, query, new AbortController().signal);
      expect(found).toMatchObject({ hits: id === "german" ? [{ id: "x" }] : [] });
    }
  }
});

test("common words do not keep a rare one from being found", async () => {
  const id = "common words";
  await pool.query("insert into vector_stores (id, dimensions, embedding_count) values ($1, 1, 12000)", [id]);
  await pool.query(
    `insert into embeddings (vector_store_id, id, content, embedding)
     select $1, lpad(n::text, 5, '0'), 'water under bridges ' || case when n = 11999 then 'zeppelin' else '' end, '[1]' from generate_series(1, 12000) as n`,
    [id],
  );
  await promoteStore(database, id, TEST_INDEXES);
  const store = (await findStore(pool, tables, id)) as VectorStoreRow;
  const search = async (keywords: string) => {
    const query = makeQuery({
      fusion: { keywords, language: "english", vectorWeight: 0, keywordsWeight: 1 },
    });
    const found = await searchStore(
      { pool, isDistributed: database.citus !== undefined, settings: {}, exactTimeoutMs: 60_000 },
      tables,
      store,
      query,
      new AbortController().signal,
    );
    if (typeof found === "string") throw new Error(found);
    return found.hits.map((hit) => hit.id);
  };
  const found = await search("zeppelin above water and bridges");
  expect(found[0]).toBe("11999");
  expect(new Set(found).size).toBe(10);
  expect(await search("bridge over water")).toHaveLength(10);
  // No row has all of these.
  expect((await search("zeppelin water castle"))[0]).toBe("11999");
});
