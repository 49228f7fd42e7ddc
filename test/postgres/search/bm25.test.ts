// The order of keyword searches against BM25 as its authors write it, in the shared table and in own tables.
import { afterAll, describe, expect, test } from "vitest";
import { promoteStore } from "../../../src/indexes/worker.ts";
import { FREQUENCY } from "../../../src/search/keywords/bm25.ts";
import { searchStore } from "../../../src/search/run.ts";
import { findStore, type VectorStoreRow } from "../../../src/storage/stores.ts";
import { seededRandom } from "../../../scripts/crash/random.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { TEST_INDEXES } from "../../support/stores/index-store.ts";
import { makeQuery } from "../../support/stores/search-store.ts";

const database = await openTestDatabase();
const { pool, tables } = database;
afterAll(() => database.close());

/** Makes a store of texts with the ids t000, t001, … */
async function makeStore(id: string, place: string, texts: readonly string[]): Promise<VectorStoreRow> {
  await pool.query(
    "insert into vector_stores (id, dimensions, embedding_count, language) values ($1, 1, $2, 'simple')",
    [id, texts.length],
  );
  await pool.query(
    `insert into embeddings (vector_store_id, id, content, embedding)
     select $1, 't' || lpad((n - 1)::text, 3, '0'), content, '[1]' from unnest($2::text[]) with ordinality as texts (content, n)`,
    [id, texts],
  );
  await pool.query(
    "insert into pgquiver_indexes (vector_store_id, keyword_index, due) values ($1, $2, false)",
    [id, !place.endsWith("without words")],
  );
  if (place !== "the shared table") await promoteStore(database, id, TEST_INDEXES);
  return (await findStore(pool, tables, id)) as VectorStoreRow;
}

async function search(store: VectorStoreRow, keywords: string, resultsMax = 10): Promise<string[]> {
  const query = makeQuery({
    fusion: { keywords, language: "simple", vectorWeight: 0, keywordsWeight: 1 },
    resultsMax,
  });
  const searching = {
    pool,
    isDistributed: database.citus !== undefined,
    settings: {},
    exactTimeoutMs: 60_000,
  };
  const found = await searchStore(searching, tables, store, query, new AbortController().signal);
  if (typeof found === "string") throw new Error(found);
  return found.hits.map(({ id }) => id);
}

test("a word's frequency is read exactly from ts_rank", async () => {
  const { rows } = await pool.query(
    `select n, ${FREQUENCY}::int as frequency
     from (select n, to_tsvector('simple', repeat('fox ', n) || repeat('owl den ', 3)) as content_tsvector, 'fox'::tsquery as query
       from generate_series(0, 255) as n) texts order by n`,
  );
  expect(rows).toEqual(Array.from({ length: 256 }, (_, n) => ({ n, frequency: n })));
});

describe.each([
  { place: "the shared table" },
  { place: "a table of its own" },
  { place: "a table of its own without words" },
])("in $place", ({ place }) => {
  // ts_rank knows no frequencies of words in the store, and no length: it would put both the other way round.
  test("a rare word counts more than a common one that is there more often", async () => {
    const others = Array.from({ length: 40 }, (_, n) => `water ${n}`);
    const texts = ["water water water water water water", "a zeppelin and more", ...others];
    const store = await makeStore(`rare in ${place}`, place, texts);
    expect((await search(store, "zeppelin water")).slice(0, 2)).toEqual(["t001", "t000"]);
  });

  test("a word in a long text counts less than in a short one", async () => {
    const long = Array.from({ length: 200 }, (_, n) => `filler${n}`).join(" ");
    const store = await makeStore(`long in ${place}`, place, [`owl owl ${long}`, "an owl sleeps", "nothing"]);
    expect(await search(store, "owl")).toEqual(["t001", "t000"]);
  });

  test("texts are in the order of BM25", async () => {
    const random = seededRandom(60).next;
    // Low numbers are common words, high ones rare.
    const draw = () => `w${Math.floor(20 * random() ** 2)}`;
    const texts = Array.from({ length: 200 }, () =>
      Array.from({ length: 1 + Math.floor(30 * random()) }, draw).join(" "),
    );
    const store = await makeStore(`order in ${place}`, place, texts);
    for (const words of [["w0"], ["w3", "w19"], ["w0", "w9", "w15", "w18"]]) {
      const expected = rank(texts, words);
      expect(await search(store, words.join(" "), texts.length)).toEqual(expected);
    }
  });
});

/** The ids of the texts that have any of the words, the best by BM25 first, then by id. */
function rank(texts: readonly string[], query: readonly string[]): string[] {
  const all = texts.map((text, n) => ({
    id: `t${String(n).padStart(3, "0")}`,
    words: text.split(" "),
    length: new Set(text.split(" ")).size,
  }));
  const count = (words: readonly string[], word: string) => words.filter((each) => each === word).length;
  const found = all.filter(({ words }) => query.some((word) => words.includes(word)));
  const mean = all.reduce((sum, { length }) => sum + length, 0) / all.length;
  const score = (words: readonly string[], length: number) =>
    query.reduce((sum, word) => {
      const having = all.filter((text) => text.words.includes(word)).length;
      const idf = Math.log(1 + (all.length - having + 0.5) / (having + 0.5));
      const frequency = count(words, word);
      return sum + (idf * frequency * 2.2) / (frequency + 1.2 * (0.25 + (0.75 * length) / mean));
    }, 0);
  return found
    .map(({ id, words, length }) => ({ id, score: score(words, length) }))
    .toSorted((a, b) => (Math.abs(a.score - b.score) > 1e-6 ? b.score - a.score : a.id < b.id ? -1 : 1))
    .map(({ id }) => id);
}
