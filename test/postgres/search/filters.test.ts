// A filtered search of a store with an index is planned by a sample of the store's metadata.
import { afterAll, beforeAll, expect, test } from "vitest";
import { encodeVector } from "../../../src/postgres/copy.ts";
import { placeTables } from "../../../src/postgres/tables.ts";
import type { Filter } from "../../../src/filters/sql.ts";
import { MetadataSamples } from "../../../src/search/metadata-samples.ts";
import { searchStore, type Findings, type Searching } from "../../../src/search/run.ts";
import type { SearchQuery } from "../../../src/search/query.ts";
import { composeSplitSearch } from "../../../src/search/distributed/split-statement.ts";
import { composeSearch } from "../../../src/search/statement.ts";
import type { VectorStoreRow } from "../../../src/storage/stores.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { makeQuery, makeSearchStore, nameRow } from "../../support/stores/search-store.ts";

const ROWS = 3_000;
const never = new AbortController().signal;
const database = await openTestDatabase();
const { pool, tables } = database;
afterAll(() => database.close());

let store: VectorStoreRow;
let vector: Buffer;
beforeAll(async () => {
  const made = await makeSearchStore(database, "filtered", {
    rows: ROWS,
    dimensions: 8,
    precision: "float16",
    metadata: (row) => ({ place: (row * 7) % ROWS, lang: row % 2 === 0 ? "en" : "de" }),
  });
  store = made.store;
  vector = encodeVector(made.queries[0] as Float32Array);
});

async function search(query: Partial<SearchQuery>, given: Partial<Searching> = {}): Promise<Findings> {
  const searching = {
    pool,
    isDistributed: database.citus !== undefined,
    settings: {},
    exactTimeoutMs: 60_000,
    ...given,
  };
  const outcome = await searchStore(searching, tables, store, makeQuery({ vector, ...query }), never);
  if (typeof outcome === "string") throw new Error(outcome);
  return outcome;
}

/** How often `work` asks the pool for a connection: once for each sample, each scan of an index, each exact search. */
async function countUses(work: () => Promise<unknown>): Promise<number> {
  let uses = 0;
  const count = () => uses++;
  pool.on("acquire", count);
  await work().finally(() => pool.off("acquire", count));
  return uses;
}

const below = (value: number): Filter => ({ type: "lt", key: "place", value });

test("where few rows match they are read at once, not after a scan of the index", async () => {
  const samples = new MetadataSamples();
  const query = { filter: below(5) };
  expect((await search(query, { samples })).hits).toHaveLength(5);
  expect(await countUses(() => search(query, { samples }))).toBe(1);
  expect(await countUses(() => search(query))).toBe(2);
});

test("searches that begin together share one sample, and later ones use it", async () => {
  const samples = new MetadataSamples();
  const query = { filter: below(ROWS / 2) };
  const three = () => Promise.all([1, 2, 3].map(() => search(query, { samples })));
  expect(await countUses(three)).toBe(4);
  expect(await countUses(three)).toBe(3);
  // Another key needs another sample, which has both.
  const other = { filter: { type: "eq", key: "lang", value: "en" } as const };
  expect(await countUses(() => search(other, { samples }))).toBe(2);
  expect(await countUses(() => search(query, { samples }))).toBe(1);
});

test("keeps no more values than allowed, those used last", async () => {
  const samples = new MetadataSamples(2 * ROWS);
  await search({ filter: below(5) }, { samples });
  const kept = samples.values;
  expect(kept).toBeGreaterThan(0);
  for (const key of ["a", "b", "c"]) await search({ filter: { type: "gt", key, value: 1 } }, { samples });
  expect(samples.values).toBeLessThanOrEqual(2 * ROWS);
});

test("a scan of the index that promised much and finds little is cut short", async () => {
  const samples = new MetadataSamples();
  const query = { filter: below(ROWS / 2) };
  expect(await search(query, { samples })).toMatchObject({ method: "index", isComplete: true });
  // The sample still says that half of the rows match.
  const old = await pool.query<{ ids: string[]; metadata: object[] }>(
    `select array_agg(id) as ids, array_agg(metadata) as metadata from "${store.own_table}"`,
  );
  await pool.query(`update "${store.own_table}" set metadata = jsonb_build_object('place', ${ROWS})`);
  await pool.query(`update "${store.own_table}" set metadata = '{"place": 0}' where id = $1`, [nameRow(9)]);
  const found = await search(query, { samples });
  expect(found).toMatchObject({ method: "exact", isComplete: true });
  expect(found.hits.map(({ id }) => id)).toEqual([nameRow(9)]);
  await pool.query(
    `update "${store.own_table}" set metadata = old.metadata from unnest($1::text[], $2::jsonb[]) as old (old_id, metadata) where id = old_id`,
    [old.rows[0]?.ids, old.rows[0]?.metadata.map((value) => JSON.stringify(value))],
  );
});

test("the limit of a scan ends the scan, and is gone with its statement", async () => {
  const client = await pool.connect();
  try {
    const rejected = async (visitsMax: number | undefined) => {
      const index = { precision: "float16", dimensions: 8, visitsMax } as const;
      const query = makeQuery({ vector, filter: below(0) });
      const placed = placeTables(tables, store);
      const { text, values } =
        database.citus === undefined
          ? composeSearch(placed, store, query, index)
          : composeSplitSearch(placed, store, query, index).hits;
      const { rows } = await client.query<{ "QUERY PLAN": string }>(`explain (analyze) ${text}`, values);
      const plan = rows.map((row) => row["QUERY PLAN"]).join("\n");
      expect(plan).toMatch(/Index Scan using \w+_hnsw_/);
      return Number(/Rows Removed by Filter: (\d+)/.exec(plan)?.[1]);
    };
    expect(await rejected(undefined)).toBeGreaterThan(0.9 * ROWS);
    expect(await rejected(300)).toBeLessThan(0.4 * ROWS);
    expect(await rejected(undefined)).toBeGreaterThan(0.9 * ROWS);
  } finally {
    client.release();
  }
});

test("an aborted search does not spoil the sample for others", async () => {
  const samples = new MetadataSamples();
  const gone = new AbortController();
  const searching = {
    pool,
    isDistributed: database.citus !== undefined,
    settings: {},
    exactTimeoutMs: 60_000,
    samples,
  };
  const query = makeQuery({ vector, filter: below(5) });
  const aborted = searchStore(searching, tables, store, query, gone.signal);
  const other = search({ filter: below(5) }, { samples });
  gone.abort(new Error("gone"));
  await expect(aborted).rejects.toThrow("gone");
  expect((await other).hits).toHaveLength(5);
});
