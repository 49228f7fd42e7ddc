// Whatever way a filtered search goes, it finds the same rows: by the vector index, by the indexes on metadata and
// attributes, by reading all rows, or as it chooses itself; also after rows were added, changed and deleted.
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Attribute } from "../../../src/filters/attribute-index.ts";
import { countMatches, keysOf } from "../../../src/filters/share.ts";
import { promoteStore } from "../../../src/indexes/worker.ts";
import { encodeVector } from "../../../src/postgres/copy.ts";
import { MetadataSamples } from "../../../src/search/metadata-samples.ts";
import type { SearchQuery } from "../../../src/search/query.ts";
import { searchStore, type Searching } from "../../../src/search/run.ts";
import type { VectorStoreRow } from "../../../src/storage/stores.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { filter, keys, matches, metadata, roundTrip, type Json } from "../../support/stores/filters.ts";
import { TEST_INDEXES } from "../../support/stores/index-store.ts";
import { makeQuery, makeSearchStore, nameRow } from "../../support/stores/search-store.ts";

const seed = 20_261_126;
const ROWS = 1_000;
const CHANGED = 200;
const never = new AbortController().signal;
const attributes: Attribute[] = keys
  .slice(0, 8)
  .flatMap((key) => [{ key, type: "number" } as const, { key, type: "string" } as const]);

const database = await openTestDatabase();
const { pool, tables } = database;
afterAll(() => database.close());

let store: VectorStoreRow;
let queries: Float32Array[];
/** What the store holds, by id. */
const model = new Map<string, Json | undefined>();

beforeAll(async () => {
  ({ store, queries } = await makeSearchStore(database, "paths", {
    rows: ROWS,
    dimensions: 8,
    precision: "float16",
  }));
  for (let row = 0; row < ROWS; row++) model.set(nameRow(row), {});
  await pool.query("update pgquiver_indexes set attributes = $1", [JSON.stringify(attributes)]);
  await promoteStore(database, store.id, TEST_INDEXES);
  await write([...model.keys()], 1);
});

/** Gives rows other metadata. */
async function write(ids: string[], round: number): Promise<void> {
  const values = fc
    .sample(metadata, { seed: seed + round, numRuns: ids.length })
    .map((value) => (value === undefined ? undefined : roundTrip(value)));
  ids.forEach((id, index) => model.set(id, values[index]));
  await pool.query(
    `update "${store.own_table}" set metadata = value from unnest($1::text[], $2::jsonb[]) as other (other_id, value) where id = other_id`,
    [ids, values.map((value) => (value === undefined ? null : JSON.stringify(value)))],
  );
}

async function remove(ids: string[]): Promise<void> {
  for (const id of ids) model.delete(id);
  await pool.query(`delete from "${store.own_table}" where id = any($1)`, [ids]);
}

async function add(ids: string[]): Promise<void> {
  for (const [index, id] of ids.entries())
    await pool.query(
      `insert into "${store.own_table}" (vector_store_id, id, content, embedding) values ($1, $2, '', $3)`,
      [store.id, id, JSON.stringify(Array.from({ length: 8 }, (_, axis) => Math.sin(index * 8 + axis)))],
    );
  await write(ids, 2);
}

/** The ids and scores that a search finds, and how. */
async function find(asked: Partial<SearchQuery>, given: Partial<Searching>) {
  // As many candidates as there are rows make the vector index find what an exact search finds.
  const query = makeQuery({ efSearch: 1_000, ...asked });
  const searching = { pool, settings: {}, exactTimeoutMs: 60_000, ...given };
  const outcome = await searchStore(searching, tables, store, query, never);
  if (typeof outcome === "string") throw new Error(outcome);
  expect(outcome.isComplete).toBe(true);
  return { method: outcome.method, hits: outcome.hits.map(({ id, score }) => [id, score]) };
}

async function compare(filtersTried: number, samples: MetadataSamples): Promise<void> {
  const methods = new Set<string>();
  let number = 0;
  const property = fc.asyncProperty(filter, async (filter) => {
    const vector = encodeVector(queries[number++ % queries.length] as Float32Array);
    // Few results, for which the vector index is worth its scan, and many.
    const query = { vector, filter, resultsMax: number % 2 === 0 ? 5 : 50 };
    const exact = { ...query, isExact: true };
    const read = await find(exact, {
      settings: { enable_indexscan: "off", enable_bitmapscan: "off" },
    });
    const matching = new Set([...model].flatMap(([id, row]) => (matches(filter, row) ? [id] : [])));
    expect(read.hits).toHaveLength(Math.min(query.resultsMax, matching.size));
    for (const [id] of read.hits) expect(matching).toContain(id);
    expect((await find(exact, {})).hits).toEqual(read.hits);
    expect((await find(query, {})).hits).toEqual(read.hits);
    const chosen = await find(query, { samples: asOfLargeStore(samples) });
    expect(chosen.hits).toEqual(read.hits);
    methods.add(chosen.method);
  });
  await fc.assert(property, { seed, numRuns: filtersTried });
  expect([...methods].toSorted()).toEqual(["exact", "index"]);
}

/** Samples that take the store for larger than it is: among so few rows no scan of the vector index is worth its cost. */
function asOfLargeStore(samples: MetadataSamples): MetadataSamples {
  const find: MetadataSamples["find"] = async (...asked) => {
    const sample = await samples.find(...asked);
    return sample === undefined ? undefined : { ...sample, storeRows: 50 * sample.storeRows };
  };
  return { find } as MetadataSamples;
}

test("all ways find the same rows, before and after changes", async () => {
  const samples = new MetadataSamples();
  await compare(200, samples);
  await remove(Array.from({ length: CHANGED }, (_, row) => nameRow(row)));
  await add(Array.from({ length: CHANGED }, (_, row) => nameRow(ROWS + row)));
  await write(
    Array.from({ length: CHANGED }, (_, row) => nameRow(CHANGED + row)),
    3,
  );
  // With the sample as it was, which is outdated.
  await compare(200, samples);
  await compare(150, new MetadataSamples());
});

test("a sample of all rows counts what matches, but for what is cut and for the order of few characters", async () => {
  const samples = new MetadataSamples();
  let counted = 0;
  const property = fc.asyncProperty(filter, async (filter) => {
    const sample = await samples.find(pool, tables, store, keysOf(filter), never);
    if (sample === undefined) throw new Error("There is no sample.");
    expect(sample.rows).toBe(ROWS);
    const expected = [...model.values()].filter((row) => matches(filter, row)).length;
    if (Math.abs(countMatches(filter, sample.columns, sample.rows) - expected) <= 0.02 * ROWS) counted++;
  });
  await fc.assert(property, { seed, numRuns: 200 });
  expect(counted).toBeGreaterThan(180);
});
