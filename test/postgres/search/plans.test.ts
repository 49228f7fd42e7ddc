// The planner must take a store's index whatever its size, from the moment it is built and however often it is asked.
import pg from "pg";
import { afterAll, expect, test } from "vitest";
import { decodeVector, encodeVector } from "../../../src/postgres/copy.ts";
import { attributeExpression, attributeIndexName, rangeOf } from "../../../src/filters/attribute-index.ts";
import type { Queryable } from "../../../src/postgres/database.ts";
import { placeTables } from "../../../src/postgres/tables.ts";
import type { Precision } from "../../../src/postgres/vector-index.ts";
import type { Filter } from "../../../src/filters/sql.ts";
import type { SearchQuery } from "../../../src/search/query.ts";
import { composeSearch, type Statement } from "../../../src/search/statement.ts";
import type { VectorStoreRow } from "../../../src/storage/stores.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { makeQuery, makeSearchStore } from "../../support/stores/search-store.ts";

const database = await openTestDatabase();
const { pool, tables } = database;
afterAll(() => database.close());

/** The indexes of the rows that a search as the service runs it uses, on a connection that has run it so many times. */
async function findIndexes(
  store: VectorStoreRow,
  query: SearchQuery,
  runs = 0,
  visitsMax?: number,
): Promise<string[]> {
  const statement = compose(store, query, visitsMax);
  const client = await pool.connect();
  try {
    for (let run = 0; run < runs; run++) await client.query(statement);
    const { rows } = await (runs === 0
      ? client.query<Explained>(`explain (costs off) ${statement.text}`, statement.values)
      : client.query<Explained>(
          `explain (costs off) execute "${statement.name}" (${statement.values.map(toLiteral).join(", ")})`,
        ));
    return rows.flatMap(
      (row) => /Index Scan (?:using|on) embeddings_(?:\d+_)?([a-z]+)/.exec(row["QUERY PLAN"])?.[1] ?? [],
    );
  } finally {
    client.release();
  }
}

function compose(store: VectorStoreRow, query: SearchQuery, visitsMax?: number): Statement {
  const { own_table, index_precision, dimensions } = store;
  const index =
    own_table === null || index_precision === null || dimensions === null
      ? undefined
      : { precision: index_precision, dimensions, visitsMax };
  return composeSearch(placeTables(tables, store), store, query, index);
}

/** How often a prepared statement was run by a plan of its own, and by the one for all values. */
async function findPlans({ name }: Statement, client: Queryable = pool): Promise<object[]> {
  const { rows } = await client.query<{ custom: number; generic: number }>(
    "select custom_plans::int as custom, generic_plans::int as generic from pg_prepared_statements where name = $1",
    [name],
  );
  return rows;
}

interface Explained {
  "QUERY PLAN": string;
}

/** EXECUTE takes no parameters, and for EXPLAIN each value must be written out. */
function toLiteral(value: unknown): string {
  if (value === null) return "null";
  return pg.escapeLiteral(
    value instanceof Buffer ? `[${decodeVector(value).join(",")}]` : `${value as string}`,
  );
}

const sizes: { rows: number; dimensions: number; precision: Precision }[] = [
  ...(["float32", "float16", "binary"] as const).flatMap((precision) => [
    { rows: 100, dimensions: 8, precision },
    { rows: 200, dimensions: 1536, precision },
    { rows: 2_000, dimensions: 8, precision },
  ]),
  // Their vectors lie outside of their rows, so that the table looks small.
  { rows: 100, dimensions: 3_000, precision: "float16" },
  { rows: 100, dimensions: 5_000, precision: "binary" },
];

test.each(sizes)(
  "$rows rows of $dimensions dimensions are searched by their $precision index",
  async (size) => {
    const id = Object.values(size).join(" ");
    const { store, queries } = await makeSearchStore(database, id, { ...size, queries: 1 });
    const vector = encodeVector(queries[0] as Float32Array);
    expect(store.index_precision).toBe(size.precision);
    for (const resultsMax of [1, 10, 50]) {
      expect(await findIndexes(store, makeQuery({ vector, resultsMax }))).toEqual(["hnsw"]);
    }
    expect(await findIndexes(store, makeQuery({ vector }), 10)).toEqual(["hnsw"]);
    expect(await findIndexes(store, makeQuery({ vector, efSearch: 40 }), 10)).toEqual(["hnsw"]);
    const fusion = { keywords: "text", language: "english", vectorWeight: 1, keywordsWeight: 1 };
    // The word is counted; then rows with all words are found, and rows with any.
    const indexes = ["hnsw", "text", "text", "text", "pkey"];
    expect(await findIndexes(store, makeQuery({ vector, fusion }))).toEqual(indexes);
  },
);

test("few rows of a large table are collected by their metadata, many by their vectors", async () => {
  const rows = 5_000;
  const { store, queries } = await makeSearchStore(database, "filtered", {
    rows,
    dimensions: 8,
    precision: "float16",
    metadata: (row) => ({ half: row % 2, rare: row % (rows / 5) }),
  });
  const vector = encodeVector(queries[0] as Float32Array);
  const plan = (filter: Filter) => findIndexes(store, makeQuery({ vector, filter }));
  expect(await plan({ type: "eq", key: "rare", value: 1 })).toEqual(["metadata"]);
  expect(await plan({ type: "in", key: "rare", values: [1, 2] })).toEqual(["metadata", "metadata"]);
  expect(await plan({ type: "eq", key: "half", value: 1 })).toEqual(["hnsw"]);
});

test("a store in the shared table is read through its key", async () => {
  await makeSearchStore(database, "beside", { rows: 2_000, dimensions: 8 });
  const { store, queries } = await makeSearchStore(database, "small", { rows: 200, dimensions: 8 });
  await pool.query("analyze embeddings");
  const vector = encodeVector(queries[0] as Float32Array);
  expect(await findIndexes(store, makeQuery({ vector }), 10)).toEqual(["pkey"]);
});

test("a search without a filter is planned only a few times per connection", async () => {
  const dimensions = 8;
  const large = await makeSearchStore(database, "planned", { rows: 500, dimensions, precision: "float16" });
  const small = await makeSearchStore(database, "planned small", { rows: 50, dimensions });
  const vector = encodeVector(large.queries[0] as Float32Array);
  const statements = [
    compose(large.store, makeQuery({ vector })),
    compose(large.store, makeQuery({ vector, efSearch: 50 })),
    compose(small.store, makeQuery({ vector, resultsMax: 9 })),
  ];
  const client = await pool.connect();
  try {
    for (const statement of statements) {
      for (let run = 0; run < 20; run++) await client.query(statement);
      // The first of the twenty was not prepared yet.
      expect(await findPlans(statement, client)).toEqual([{ custom: 5, generic: 14 }]);
    }
  } finally {
    client.release();
  }
});

test("a search with a filter is prepared, and planned for its values unless the vector index leads", async () => {
  const rows = 5_000;
  const { store, queries } = await makeSearchStore(database, "planned filtered", {
    rows,
    dimensions: 8,
    precision: "float16",
    metadata: (row) => ({ half: row % 2, rare: row % (rows / 5) }),
  });
  const vector = encodeVector(queries[0] as Float32Array);
  const filters: { filter: Filter; indexes: string[] }[] = [
    { filter: { type: "eq", key: "rare", value: 1 }, indexes: ["metadata"] },
    // The same text as the one before, so this search runs on what that one has prepared.
    { filter: { type: "eq", key: "half", value: 1 }, indexes: ["hnsw"] },
    { filter: { type: "lt", key: "rare", value: rows / 10 }, indexes: ["hnsw"] },
  ];
  for (const { filter, indexes } of filters) {
    const query = makeQuery({ vector, filter });
    expect(await findIndexes(store, query, 20)).toEqual(indexes);
    expect(await findPlans(compose(store, query))).toEqual([{ custom: expect.any(Number), generic: 0 }]);
    // Where it is known that the vector index leads, the plan is the same for all values.
    expect(await findIndexes(store, query, 20, 1_000)).toEqual(["hnsw"]);
    expect(await findPlans(compose(store, query, 1_000))).toEqual([
      { custom: 5, generic: expect.any(Number) },
    ]);
  }
});

test("a range of an attribute is read by the attribute's index, by one plan for all values", async () => {
  const rows = 2_000;
  const made = await makeSearchStore(database, "ranged", {
    rows,
    dimensions: 8,
    precision: "float16",
    metadata: (row) => ({ place: row, name: `name ${row}` }),
  });
  const table = made.store.own_table as string;
  for (const attribute of [
    { key: "place", type: "number" } as const,
    { key: "name", type: "string" } as const,
  ]) {
    const expression = attributeExpression(tables.metadata, attribute);
    await pool.query(`create index "${attributeIndexName(table, attribute)}" on "${table}" (${expression})`);
  }
  await pool.query(`analyze "${table}"`);
  // Without an index precision a search compares all rows that match.
  const store = { ...made.store, index_precision: null };
  const vector = encodeVector(made.queries[0] as Float32Array);
  for (const filter of [
    { type: "lt", key: "place", value: 3 },
    {
      type: "and",
      filters: [
        { type: "gte", key: "name", value: "name 5" },
        { type: "lt", key: "name", value: "name 50" },
      ],
    },
  ] satisfies Filter[]) {
    const query = { ...makeQuery({ vector, filter }), range: rangeOf(filter) };
    expect(await findIndexes(store, query, 20)).toEqual(["attr"]);
    expect(await findPlans(compose(store, query))).toEqual([{ custom: 5, generic: expect.any(Number) }]);
  }
});
