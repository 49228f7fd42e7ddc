// Exact search must equal a plain comparison of all vectors. Small integers keep the arithmetic of both free of rounding,
// so that ties are ties. A failure prints its seed and path.
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { promoteStore } from "../../../src/indexes/worker.ts";
import { encodeVector } from "../../../src/postgres/copy.ts";
import { searchStore } from "../../../src/search/run.ts";
import { findStore, type VectorStoreRow } from "../../../src/storage/stores.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { TEST_INDEXES } from "../../support/stores/index-store.ts";
import { makeQuery } from "../../support/stores/search-store.ts";

const seed = 20_261_122;
const queriesTried = 200;

type Vector = [number, number, number];
const coordinate = fc.integer({ min: -2, max: 2 });
const vector: fc.Arbitrary<Vector> = fc.tuple(coordinate, coordinate, coordinate);
const rows = fc
  .sample(vector, { seed, numRuns: 80 })
  .map((values, index) => ({ id: `r${index}`, values, group: index % 3 }));

const database = await openTestDatabase();
const { pool, tables } = database;
afterAll(() => database.close());

const stores: VectorStoreRow[] = [];
beforeAll(async () => {
  for (const id of ["shared", "own"]) {
    await pool.query("insert into vector_stores (id, dimensions, embedding_count) values ($1, 3, 80)", [id]);
    for (const row of rows) {
      await pool.query(
        "insert into embeddings (vector_store_id, id, content, embedding, metadata) values ($1, $2, '', $3::vector, $4)",
        [id, row.id, JSON.stringify(row.values), { group: row.group }],
      );
    }
    if (id === "own") await promoteStore(database, id, TEST_INDEXES);
    stores.push((await findStore(pool, tables, id)) as VectorStoreRow);
  }
});

test("finds what a comparison of all vectors finds, best first, ties by id, zeros last", async () => {
  const query = fc.record({
    values: vector.filter((values) => values.some((value) => value !== 0)),
    resultsMax: fc.integer({ min: 1, max: 100 }),
    group: fc.option(fc.integer({ min: 0, max: 3 }), { nil: undefined }),
  });
  await fc.assert(
    fc.asyncProperty(query, async ({ values, resultsMax, group }) => {
      const want = rows
        .filter((row) => group === undefined || row.group === group)
        .map(({ id, values: stored }) => ({ id, distance: distanceBetween(values, stored) }))
        .toSorted((a, b) => a.distance - b.distance || (a.id < b.id ? -1 : 1))
        .slice(0, resultsMax)
        .map(({ id, distance }) => ({ id, score: distance === Infinity ? 0 : 1 - distance / 2 }));
      for (const store of stores) {
        const filter =
          group === undefined ? undefined : ({ type: "eq", key: "group", value: group } as const);
        const asked = makeQuery({
          vector: encodeVector(Float32Array.from(values)),
          resultsMax,
          filter,
          isExact: true,
        });
        const searching = { pool, settings: {}, exactTimeoutMs: 60_000 };
        const found = await searchStore(searching, tables, store, asked, new AbortController().signal);
        if (typeof found === "string") throw new Error(found);
        expect(found).toMatchObject({ method: "exact", isComplete: true });
        expect(found.hits.map(({ id, score }) => ({ id, score }))).toEqual(want);
      }
    }),
    { seed, numRuns: queriesTried },
  );
}, 300_000);

/** As pgvector computes it (src/vector.c, cosine_distance); infinite for a vector of zeros. */
function distanceBetween(a: Vector, b: Vector): number {
  const dot = (x: Vector, y: Vector) => x.reduce((sum, value, axis) => sum + value * (y[axis] as number), 0);
  const norms = Math.sqrt(dot(a, a) * dot(b, b));
  return norms === 0 ? Infinity : 1 - Math.max(-1, Math.min(1, dot(a, b) / norms));
}
