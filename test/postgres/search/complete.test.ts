// A search gives as many results as were asked for, or as match, whatever part of a large store a filter leaves.
import { Code } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { encodeVector } from "../../../src/postgres/copy.ts";
import { openDatabase } from "../../../src/postgres/connection/pool.ts";
import type { Filter } from "../../../src/filters/sql.ts";
import type { SearchQuery } from "../../../src/search/query.ts";
import { MetadataSamples } from "../../../src/search/metadata-samples.ts";
import { searchStore, type Findings, type Searching } from "../../../src/search/run.ts";
import type { VectorStoreRow } from "../../../src/storage/stores.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { makeQuery, makeSearchStore, nameRow } from "../../support/stores/search-store.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

const native = inject("template").kind === "postgres";
const ROWS = native ? 100_000 : 5_000;
const QUERIES = 10;
const never = new AbortController().signal;

const database = await openTestDatabase();
const { pool, tables } = database;
afterAll(() => database.close());

async function search(
  store: VectorStoreRow,
  query: Partial<SearchQuery>,
  given: Partial<Searching> = {},
): Promise<Findings> {
  const searching = {
    pool,
    isDistributed: database.citus !== undefined,
    settings: {},
    exactTimeoutMs: 60_000,
    ...given,
  };
  const outcome = await searchStore(searching, tables, store, makeQuery(query), never);
  if (typeof outcome === "string") throw new Error(outcome);
  return outcome;
}

const samples = new MetadataSamples();

const idsOf = ({ hits }: Findings) => hits.map(({ id }) => id);

describe("in a store with an index", () => {
  let store: VectorStoreRow;
  let vectors: Float32Array[];
  let queries: Float32Array[];
  beforeAll(async () => {
    ({ store, vectors, queries } = await makeSearchStore(database, "large", {
      rows: ROWS,
      dimensions: 8,
      precision: "float16",
      queries: QUERIES,
      metadata: (row) => ({ place: placeOf(row), band: bandOf(row) }),
    }));
  }, 300_000);

  /** Shuffled, so that what a filter leaves is of all clusters: 7,919 has no divisor in common with the rows. */
  const placeOf = (row: number) => (row * 7_919) % ROWS;
  const shares = [0.0001, 0.001, 0.01, 0.1, 0.5, 1];
  /** The smallest share that a row is in. */
  const bandOf = (row: number) => shares.find((share) => placeOf(row) < share * ROWS);
  /** An index serves only the first of the two. */
  const filters: {
    kind: string;
    make: (share: number) => Filter;
    matches: (row: number, share: number) => boolean;
  }[] = [
    {
      kind: "equality",
      make: (share) => ({ type: "eq", key: "band", value: share }),
      matches: (row, share) => bandOf(row) === share,
    },
    {
      kind: "comparison",
      make: (share) => ({ type: "lt", key: "place", value: share * ROWS }),
      matches: (row, share) => placeOf(row) < share * ROWS,
    },
  ];

  test.each(filters.flatMap((filter) => shares.map((share) => ({ ...filter, share }))))(
    "a filter by $kind that leaves $share of the rows gives all results there are",
    async ({ share, make, matches }) => {
      const filter = make(share);
      const matching = new Set(vectors.flatMap((_, row) => (matches(row, share) ? [nameRow(row)] : [])));
      const expected = Math.min(10, matching.size);
      let found = 0;
      for (const query of queries) {
        const vector = encodeVector(query);
        const exact = await search(store, { vector, filter, isExact: true });
        expect(exact).toMatchObject({ method: "exact", isComplete: true });
        const approximate = await search(store, { vector, filter });
        const chosen = await search(store, { vector, filter }, { samples });
        for (const findings of [exact, approximate, chosen]) {
          expect(findings.isComplete).toBe(true);
          expect(idsOf(findings).filter((id) => matching.has(id))).toHaveLength(expected);
          const scores = findings.hits.map(({ score }) => score);
          expect(scores).toEqual(scores.toSorted((a, b) => b - a));
        }
        for (const findings of [approximate, chosen])
          found += idsOf(findings).filter((id) => idsOf(exact).includes(id)).length;
      }
      expect(found / (2 * expected * queries.length)).toBeGreaterThanOrEqual(0.95);
    },
  );

  test("without a filter the index alone is asked", async () => {
    const vector = encodeVector(queries[0] as Float32Array);
    expect(await search(store, { vector })).toMatchObject({ method: "index", isComplete: true });
  });

  test("finds 1,000 of the nearest by the index, and goes on behind a place in it", async () => {
    const vector = encodeVector(queries[0] as Float32Array);
    const resultsMax = 1_000;
    const found = await search(store, { vector, resultsMax });
    const exact = await search(store, { vector, resultsMax: 2 * resultsMax, isExact: true });
    expect(found).toMatchObject({ method: "index", isComplete: true });
    expect(found.hits).toHaveLength(resultsMax);
    const nearest = new Set(idsOf(exact).slice(0, resultsMax));
    expect(idsOf(found).filter((id) => nearest.has(id)).length).toBeGreaterThanOrEqual(0.97 * resultsMax);
    const { value: distance, id } = exact.hits[resultsMax - 1] as Findings["hits"][0];
    const rest = await search(store, { vector, resultsMax, isExact: true, after: { distance, id } });
    expect(idsOf(rest)).toEqual(idsOf(exact).slice(resultsMax));
  });

  // A session's settings do not reach the nodes of a cluster, which have the role's.
  test.runIf(database.citus === undefined)("looks at as much of the index as ef_search says", async () => {
    const vector = encodeVector(queries[0] as Float32Array);
    // Without iterations an index gives as many rows as that; what is missing then is searched for exactly.
    const settings = { "hnsw.iterative_scan": "off" };
    expect((await search(store, { vector, efSearch: 5 }, { settings })).method).toBe("exact");
    expect((await search(store, { vector, efSearch: 50 }, { settings })).method).toBe("index");
  });

  // The embedded database heeds no time limit, and one that a search may reach would be too small to need one.
  test.runIf(native)("says that results are missing where to find them takes too long", async () => {
    // So few match that a scan of the index ends before it has met ten, and not before the nearest.
    const row = Array.from({ length: ROWS }, (_, index) => index).find(
      (index) => placeOf(index) === 3,
    ) as number;
    const filter: Filter = { type: "lt", key: "place", value: 20 };
    const vector = encodeVector(vectors[row] as Float32Array);
    for (const given of [{}, { samples }]) {
      const cut = await search(store, { vector, filter }, { ...given, exactTimeoutMs: 1 });
      expect(cut).toMatchObject({ method: "index", isComplete: false });
      expect(cut.hits[0]).toMatchObject({ id: nameRow(row), score: expect.closeTo(1, 5) });
      expect(cut.hits.length).toBeLessThan(10);
    }
    expect((await search(store, { vector, filter })).hits).toHaveLength(10);
  });

  // The index ends its scan before it has met any of them; the words find them all.
  test.runIf(native)("by words and vector finds what is nearest, though the index gave nothing", async () => {
    const far = (queries[0] as Float32Array).map((value) => -value);
    const ids = Array.from({ length: 30 }, (_, index) => `far ${String(index).padStart(2, "0")}`);
    for (const [index, id] of ids.entries()) {
      const vector = `[${far.map((value, axis) => (axis === 0 ? value + (ids.length - index) / 50 : value)).join(",")}]`;
      await pool.query(
        `insert into "${store.own_table}" (vector_store_id, id, content, embedding, metadata) values ('large', $1, 'needle', $2, '{"far": 1}')`,
        [id, vector],
      );
    }
    const query: Partial<SearchQuery> = {
      vector: encodeVector(queries[0] as Float32Array),
      fusion: { keywords: "needle", language: "english", vectorWeight: 100, keywordsWeight: 1 },
      filter: { type: "gte", key: "far", value: 1 },
    };
    const exact = await search(store, { ...query, isExact: true });
    expect(exact.hits[0]?.score).toBeGreaterThan(0.9);
    expect(await search(store, query)).toEqual(exact);
    await pool.query(`delete from "${store.own_table}" where content = 'needle'`);
  });

  test.runIf(native)("fails rather than find nothing when it takes too long", async () => {
    const filter: Filter = { type: "lt", key: "place", value: 0 };
    const vector = encodeVector(queries[0] as Float32Array);
    await expect(search(store, { vector, filter }, { exactTimeoutMs: 1 })).rejects.toMatchObject({
      code: "57014",
    });
    const sampled = search(store, { vector, filter }, { exactTimeoutMs: 1, samples });
    await expect(sampled).rejects.toMatchObject({ code: Code.DeadlineExceeded });
    expect(await search(store, { vector, filter })).toEqual({ hits: [], method: "exact", isComplete: true });
  });

  test.runIf(native)("behind a PgBouncer, whose sessions keep no settings, the same is found", async () => {
    await using bounced = await openDatabase({
      url: `${database.url}?pgbouncer=true`,
      tables,
      ...TEST_LIMITS,
    }).then((opened) => ({ ...opened, [Symbol.asyncDispose]: () => opened.close() }));
    const filter: Filter = { type: "lt", key: "place", value: ROWS / 100 };
    const vector = encodeVector(queries[0] as Float32Array);
    const here = await search(store, { vector, filter });
    const settings = bounced.searchSettings ?? {};
    expect(here.method).toBe("index");
    expect(await search(store, { vector, filter }, { pool: bounced.pool, settings })).toEqual(here);
    // Without them the index is not asked again when a filter leaves too few; nodes of a cluster have them by themselves.
    expect(await search(store, { vector, filter }, { pool: bounced.pool })).toMatchObject({
      method: database.citus === undefined ? "exact" : "index",
    });
  });
});

test.each(["float32", "float16", "binary"] as const)(
  "vectors of zeros, which no %s index holds, come last with score 0",
  async (precision) => {
    const id = `zeros ${precision}`;
    const { store, queries } = await makeSearchStore(database, id, { rows: 5, dimensions: 4, precision });
    await pool.query(
      `insert into "${store.own_table}" (vector_store_id, id, content, embedding) values ($1, 'zero', '', '[0,0,0,0]')`,
      [id],
    );
    const found = await search(store, { vector: encodeVector(queries[0] as Float32Array) });
    expect(found).toMatchObject({ method: "exact", isComplete: true });
    expect(idsOf(found).toSorted()).toEqual([...[0, 1, 2, 3, 4].map(nameRow), "zero"]);
    expect(found.hits[5]).toMatchObject({ id: "zero", score: 0 });
  },
);

test.each(["float32", "float16", "binary"] as const)(
  "vectors of any length are found by a %s index",
  async (precision) => {
    const id = `lengths ${precision}`;
    const { store } = await makeSearchStore(database, id, { rows: 300, dimensions: 4, precision });
    const direction = [0.1, -0.7, 0.2, 0.6];
    // A float16 has none of them: they are too large for it, or nothing.
    const lengths = [1e9, 1e-9];
    for (const length of lengths)
      await pool.query(
        `insert into "${store.own_table}" (vector_store_id, id, content, embedding) values ($1, $2, '', $3)`,
        [id, `length ${length}`, JSON.stringify(direction.map((value) => value * length))],
      );
    for (const length of lengths) {
      const vector = encodeVector(Float32Array.from(direction, (value) => value * length));
      const found = await search(store, { vector, resultsMax: 2 });
      expect(found.method).toBe("index");
      expect(idsOf(found).toSorted()).toEqual(lengths.map((other) => `length ${other}`).toSorted());
      for (const { score } of found.hits) expect(score).toBeCloseTo(1, 5);
    }
  },
);

test.each(["float32", "float16", "binary"] as const)(
  "a %s index ranks by the stored vectors, ties by id",
  async (precision) => {
    const { store, vectors } = await makeSearchStore(database, `ranks ${precision}`, {
      rows: 300,
      dimensions: 32,
      precision,
    });
    const cosine = (a: Float32Array, b: Float32Array) =>
      a.reduce((sum, value, axis) => sum + value * (b[axis] as number), 0);
    for (const vector of vectors.slice(0, 5)) {
      const found = await search(store, { vector: encodeVector(vector), resultsMax: 20 });
      expect(found.method).toBe("index");
      const ranked = vectors
        .map((other, row) => ({ id: nameRow(row), score: (1 + cosine(vector, other)) / 2 }))
        .toSorted((a, b) => b.score - a.score || (a.id < b.id ? -1 : 1))
        .slice(0, 20);
      expect(found.hits.map(({ id, score }) => ({ id, score }))).toEqual(
        ranked.map(({ id, score }) => ({ id, score: expect.closeTo(score, 5) })),
      );
    }
  },
);
