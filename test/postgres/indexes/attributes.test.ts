// Declared attributes have a B-tree index in the store's own table, which filters by order use.
import { afterAll, describe, expect, test, vi } from "vitest";
import { encodeVector } from "../../../src/postgres/copy.ts";
import type { Database } from "../../../src/postgres/database.ts";
import { placeTables } from "../../../src/postgres/tables.ts";
import type { Attribute } from "../../../src/filters/attribute-index.ts";
import type { Filter } from "../../../src/filters/sql.ts";
import { AttributeDemand } from "../../../src/search/attribute-demand.ts";
import { MetadataSamples } from "../../../src/search/metadata-samples.ts";
import { searchStore } from "../../../src/search/run.ts";
import { composeSearch } from "../../../src/search/statement.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { startTestWorker } from "../../support/stores/index-store.ts";
import { makeQuery, makeSearchStore } from "../../support/stores/search-store.ts";

const database = await openTestDatabase();
const { pool, tables } = database;
const never = new AbortController().signal;
afterAll(() => database.close());

/** Declares attributes by SQL, and makes the store due for the worker. */
async function declare(id: string, attributes: Attribute[]): Promise<void> {
  await pool.query(
    "update pgquiver_indexes set attributes = $2, due = true, retry_at = null where vector_store_id = $1",
    [id, JSON.stringify(attributes)],
  );
}

async function untilDone(id: string): Promise<void> {
  await vi.waitFor(
    async () => {
      const { rows } = await pool.query(
        "select due, last_error from pgquiver_indexes where vector_store_id = $1",
        [id],
      );
      expect(rows).toEqual([{ due: false, last_error: null }]);
    },
    { timeout: 60_000, interval: 20 },
  );
}

/** The attributes in the catalog. */
async function findAttributes(id: string): Promise<Attribute[]> {
  const { rows } = await pool.query<{ attributes: Attribute[] }>(
    "select attributes from pgquiver_indexes where vector_store_id = $1",
    [id],
  );
  return rows[0]?.attributes ?? [];
}

/** The attribute indexes of a table, and whether they are valid. */
async function findAttributeIndexes(
  table: string | null,
  { pool }: Database = database,
): Promise<Record<string, boolean>> {
  const { rows } = await pool.query<{ definition: string; valid: boolean }>(
    `select pg_get_indexdef(indexrelid) as definition, indisvalid as valid from pg_index
     join pg_class on pg_class.oid = indexrelid where indrelid = to_regclass($1) and relname ~ '_attr_' order by 1`,
    [table],
  );
  return Object.fromEntries(
    rows.map(({ definition, valid }) => [/->>? '([^']*)'/.exec(definition)?.[1] ?? definition, valid]),
  );
}

const year: Attribute = { key: "year", type: "number" };
const day: Attribute = { key: "day", type: "string" };

test("filters by order collect rows by the indexes of attributes", async () => {
  const { store, queries } = await makeSearchStore(database, "declared", {
    rows: 3_000,
    dimensions: 8,
    precision: "float16",
    metadata: (row) => ({ year: row, day: `2026-${String(row).padStart(5, "0")}`, other: row }),
  });
  const vector = encodeVector(queries[0] as Float32Array);
  const indexesOf = async (filter: Filter) => {
    const { text, values } = composeSearch(
      placeTables(tables, store),
      store,
      makeQuery({ vector, filter }),
      undefined,
    );
    const { rows } = await pool.query<{ "QUERY PLAN": string }>(`explain (costs off) ${text}`, values);
    return rows.filter((row) => /Scan.* on .*_attr_|using .*_attr_/.test(row["QUERY PLAN"])).length;
  };
  const lt: Filter = { type: "lt", key: "year", value: 20 };
  expect(await indexesOf(lt)).toBe(0);
  startTestWorker(database);
  await declare("declared", [year, day]);
  await untilDone("declared");
  expect(await findAttributeIndexes(store.own_table)).toEqual({ day: true, year: true });
  expect(await indexesOf(lt)).toBe(1);
  expect(await indexesOf({ type: "gte", key: "day", value: "2026-02990" })).toBe(1);
  expect(await indexesOf({ type: "prefix", key: "day", value: "2026-0000" })).toBe(1);
  expect(
    await indexesOf({ type: "or", filters: [lt, { type: "gt", key: "day", value: "2026-02990" }] }),
  ).toBe(2);
  expect(await indexesOf({ type: "lt", key: "year", value: "20" })).toBe(0);
  expect(await indexesOf({ type: "lt", key: "other", value: 20 })).toBe(0);

  await declare("declared", [day]);
  await untilDone("declared");
  expect(await findAttributeIndexes(store.own_table)).toEqual({ day: true });
});

test("an attribute that many slow searches lack is indexed without being declared", async () => {
  const { store, queries } = await makeSearchStore(database, "undeclared", {
    rows: 6_000,
    dimensions: 4,
    precision: "float16",
    metadata: (row) => ({ year: row }),
  });
  await pool.query("update vector_stores set index_policy = 'auto' where id = 'undeclared'");
  startTestWorker(database);
  const samples = new MetadataSamples();
  const searching = {
    pool,
    settings: {},
    exactTimeoutMs: 60_000,
    samples,
    demand: new AttributeDemand(pool, tables),
  };
  const vector = encodeVector(queries[0] as Float32Array);
  const search = (filter: Filter) =>
    searchStore(searching, tables, store, makeQuery({ vector, filter }), never);
  const strong: Filter = { type: "lt", key: "year", value: 5 };
  for (let count = 0; count < 19; count++) await search(strong);
  expect(await findAttributes("undeclared")).toEqual([]);
  const before = await search(strong);
  await vi.waitFor(async () => expect(await findAttributeIndexes(store.own_table)).toEqual({ year: true }), {
    timeout: 60_000,
    interval: 20,
  });
  expect(await findAttributes("undeclared")).toEqual([{ ...year, automatic: true }]);
  expect(await search(strong)).toEqual(before);
});

describe("the demand for an attribute", () => {
  const demand = new AttributeDemand(pool, tables);
  const ask = async (id: string, key: string) => {
    for (let count = 0; count < 20; count++) await demand.note(id, [{ key, type: "number" }]);
    return (await findAttributes(id)).map((attribute) => attribute.key);
  };
  const makePlan = async (id: string, policy: string) => {
    await pool.query("insert into vector_stores (id, index_policy) values ($1, $2)", [id, policy]);
    await pool.query("insert into pgquiver_indexes (vector_store_id, due) values ($1, false)", [id]);
  };

  test("makes no more than four indexes, each once", async () => {
    await makePlan("greedy", "auto");
    for (const key of ["a", "a", "b", "c", "d"]) await ask("greedy", key);
    expect(await ask("greedy", "e")).toEqual(["a", "b", "c", "d"]);
  });

  test("leaves what is declared as it is", async () => {
    await makePlan("declared by a caller", "auto");
    await declare("declared by a caller", [year]);
    expect(await ask("declared by a caller", "year")).toEqual(["year"]);
    expect(await ask("declared by a caller", "a")).toEqual(["year", "a"]);
  });

  test.each(["always", "never"])("changes nothing where the policy is %s", async (policy) => {
    await makePlan(policy, policy);
    expect(await ask(policy, "a")).toEqual([]);
  });

  test("survives a database that fails", async () => {
    const failing = new AttributeDemand(pool, { ...tables, indexes: '"missing"' });
    for (let count = 0; count < 25; count++) await failing.note("any", [year]);
  });
});

test("tables with long names, and other people's indexes, are treated alike", async () => {
  const names = { embeddings: `e${"x".repeat(60)}` };
  await using other = await openTestDatabase(names);
  await other.pool.query(
    "insert into vector_stores (id, dimensions, index_policy) values ('long name', 3, 'always')",
  );
  await other.pool.query(
    "insert into pgquiver_indexes (number, vector_store_id, attributes) overriding system value values (12345678, 'long name', $1)",
    [JSON.stringify([year])],
  );
  await other.pool.query("select setval(pg_get_serial_sequence('pgquiver_indexes', 'number'), 12345678)");
  const worker = startTestWorker(other);
  const done = (attributes: Attribute[]) =>
    vi.waitFor(
      async () => {
        const { rows } = await other.pool.query(
          `select own_table, attributes, last_error, due from pgquiver_indexes`,
        );
        expect(rows).toMatchObject([{ attributes, last_error: null, due: false }]);
        return rows[0].own_table as string;
      },
      { timeout: 60_000, interval: 20 },
    );
  const table = await done([year]);
  expect(Object.values(await findAttributeIndexes(`"${table}"`, other))).toEqual([true]);
  await other.pool.query(`create index "${table}_attr_mine" on "${table}" (content)`);
  await other.pool.query("update pgquiver_indexes set attributes = '[]', due = true");
  await done([]);
  expect(Object.values(await findAttributeIndexes(`"${table}"`, other))).toEqual([true]);
  expect(worker.errors).toEqual([]);
});

test("rows with longer values than a B-tree holds are written and found", async () => {
  const { store, queries } = await makeSearchStore(database, "long", {
    rows: 50,
    dimensions: 8,
    precision: "float16",
    metadata: (row) => ({ day: "x".repeat(200) + String(row).padStart(2, "0") }),
  });
  startTestWorker(database);
  await declare("long", [day]);
  await untilDone("long");
  // Noise, or it would be compressed below the limit.
  const noise = Array.from({ length: 20_000 }, (_, at) =>
    String.fromCodePoint(0x4e00 + ((at * 7_919) % 20_000)),
  ).join("");
  await pool.query(
    `update "${store.own_table}" set metadata = jsonb_build_object('day', $1::text) where id = 'r0000000'`,
    [noise],
  );
  const find = async (filter: Filter) => {
    const query = makeQuery({ vector: encodeVector(queries[0] as Float32Array), filter, resultsMax: 50 });
    const { rows } = await pool.query<{ id: string | null }>(
      composeSearch(placeTables(tables, store), store, query, undefined),
    );
    return rows.flatMap(({ id }) => id ?? []).toSorted();
  };
  // They differ only beyond what the index keeps.
  expect(await find({ type: "lt", key: "day", value: `${"x".repeat(200)}03` })).toEqual([
    "r0000001",
    "r0000002",
  ]);
  expect(await find({ type: "gte", key: "day", value: `${"x".repeat(200)}49` })).toEqual([
    "r0000000",
    "r0000049",
  ]);
  expect(await find({ type: "gt", key: "day", value: noise })).toEqual([]);
  expect(await find({ type: "gte", key: "day", value: noise })).toEqual(["r0000000"]);
});

test.runIf(database.kind === "postgres")("a build that was cut off is done again", async () => {
  const { store } = await makeSearchStore(database, "cut off", {
    rows: 100,
    dimensions: 8,
    precision: "float16",
  });
  startTestWorker(database);
  await declare("cut off", [year]);
  await untilDone("cut off");
  await pool.query(
    "update pg_index set indisvalid = false where indexrelid = (select oid from pg_class where relname ~ ('^' || $1 || '_attr_'))",
    [store.own_table],
  );
  expect(await findAttributeIndexes(store.own_table)).toEqual({ year: false });
  await declare("cut off", [year]);
  await untilDone("cut off");
  expect(await findAttributeIndexes(store.own_table)).toEqual({ year: true });
});
