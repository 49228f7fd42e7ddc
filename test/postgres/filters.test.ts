// Generated filters run over a fixed table of generated metadata; each must match exactly the rows
// that a plain evaluator of the same filter matches. Keys and values come mostly from small pools,
// or else hardly any generated filter would match a row. A failure prints its seed and path.
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { compileFilter, type Filter, type FilterValue } from "../../src/filters/sql.ts";
import { openTestDatabase } from "../support/database.ts";

type Json = null | FilterValue | Json[] | { [key: string]: Json };

const seed = 20_261_122;
const filtersTried = 2_000;

// The two spellings of é, and U+E000 and U+FFFF, which precede U+1F600 by code point but not by UTF-16 unit.
const keys = [
  "k",
  "n",
  "a.b",
  "it's",
  'say "k"',
  "back\\slash",
  "",
  " ",
  "$1",
  "0",
  "é",
  "e\u0301",
  "😀",
  "__proto__",
];
const texts = [
  "",
  "a",
  "B",
  "b",
  "1",
  "true",
  "null",
  "it's",
  '"a"',
  "\\",
  "é",
  "e\u0301",
  "\ue000",
  "\uffff",
  "😀",
];
const numbers = [0, -0, 1, -1, 1.5, 0.1, 1e21, 1e22, 5e-324, -5e-324, 2 ** 53, 1.7976931348623157e308];

const key = fc.constantFrom(...keys);
const text = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...texts) },
  { weight: 1, arbitrary: fc.string({ unit: "binary" }).filter((string) => !string.includes("\0")) },
);
const number = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...numbers) },
  { weight: 1, arbitrary: fc.double({ noNaN: true, noDefaultInfinity: true }) },
);
const scalar: fc.Arbitrary<FilterValue> = fc.oneof(text, number, fc.boolean());

const json = fc.letrec<{ value: Json; object: { [key: string]: Json } }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3 },
    { weight: 6, arbitrary: scalar },
    { weight: 1, arbitrary: fc.constant(null) },
    { weight: 1, arbitrary: fc.array(tie("value"), { maxLength: 3 }) },
    { weight: 1, arbitrary: tie("object") },
  ),
  object: fc.dictionary(key, tie("value"), { minKeys: 0, maxKeys: 12 }),
}));
/** Undefined stands for SQL null. */
const metadata: fc.Arbitrary<Json | undefined> = fc.oneof(
  { weight: 20, arbitrary: json.object },
  { weight: 1, arbitrary: json.value },
  { weight: 1, arbitrary: fc.array(json.object, { maxLength: 2 }) },
  { weight: 1, arbitrary: fc.constant(undefined) },
);

const comparison: fc.Arbitrary<Filter> = fc.oneof(
  fc.record({ type: fc.constantFrom("eq", "ne"), key, value: scalar }),
  fc.record({ type: fc.constantFrom("gt", "gte", "lt", "lte"), key, value: fc.oneof(text, number) }),
  fc.record({ type: fc.constantFrom("in", "nin"), key, values: fc.array(scalar, { maxLength: 12 }) }),
);
const { filter } = fc.letrec<{ filter: Filter }>((tie) => ({
  filter: fc.oneof(
    { maxDepth: 4 },
    comparison,
    fc.record({ type: fc.constantFrom("and", "or"), filters: fc.array(tie("filter"), { maxLength: 3 }) }),
  ),
}));

const rows = fc
  .sample(metadata, { seed, numRuns: 200 })
  .map((row) => (row === undefined ? row : roundTrip(row)));

let database: Awaited<ReturnType<typeof openTestDatabase>>;

beforeAll(async () => {
  database = await openTestDatabase();
  await database.pool.query("create table samples (id int primary key, metadata jsonb)");
  await database.pool.query(
    "insert into samples select id, metadata from unnest($1::jsonb[]) with ordinality as sample(metadata, id)",
    [rows.map((row) => (row === undefined ? null : JSON.stringify(row)))],
  );
});

afterAll(async () => {
  await database.close();
});

test("matches the rows a plain evaluator matches", async () => {
  const verdicts = new Map<string, Set<boolean>>();
  await fc.assert(
    fc.asyncProperty(filter, async (filter) => {
      const want = rows.map((row) => matches(filter, row));
      want.forEach((verdict) =>
        verdicts.set(filter.type, (verdicts.get(filter.type) ?? new Set()).add(verdict)),
      );
      expect(await evaluate(filter)).toEqual(want);
    }),
    { seed, numRuns: filtersTried },
  );
  // Every operator, as the outermost one, must have met rows it matches and rows it does not.
  for (const type of ["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "and", "or"]) {
    expect([type, verdicts.get(type)]).toEqual([type, new Set([true, false])]);
  }
}, 300_000);

test.each<[string, Filter, (row: Json | undefined) => boolean]>([
  ["an empty in matches nothing", { type: "in", key: "k", values: [] }, () => false],
  ["an empty nin matches everything", { type: "nin", key: "k", values: [] }, () => true],
  ["ne matches a missing key", { type: "ne", key: "absent", value: 1 }, () => true],
  ["eq never matches a missing key", { type: "eq", key: "absent", value: 1 }, () => false],
])("%s", async (_name, filter, want) => {
  expect(await evaluate(filter)).toEqual(rows.map(want));
});

test("equality can use a GIN index", async () => {
  const client = await database.pool.connect();
  try {
    await client.query("begin");
    await client.query("create index on samples using gin (metadata jsonb_path_ops)");
    await client.query("set local enable_seqscan = off");
    const params: unknown[] = [];
    const sql = compileFilter({ type: "eq", key: "k", value: "a" }, "metadata", params);
    const plan = await client.query(`explain (format json) select id from samples where ${sql}`, params);
    expect(JSON.stringify(plan.rows)).toContain("samples_metadata_idx");
  } finally {
    await client.query("rollback");
    client.release();
  }
});

/** Which rows Postgres returns: a condition that is null returns none. */
async function evaluate(filter: Filter): Promise<unknown> {
  const params: unknown[] = [];
  const sql = compileFilter(filter, '"samples"."metadata"', params);
  const result = await database.pool.query(
    `select array_agg(coalesce(${sql}, false) order by id) as verdicts from samples`,
    params,
  );
  return result.rows[0].verdicts;
}

function matches(filter: Filter, row: Json | undefined): boolean {
  switch (filter.type) {
    case "and":
      return filter.filters.every((part) => matches(part, row));
    case "or":
      return filter.filters.some((part) => matches(part, row));
    case "eq":
      return lookUp(row, filter.key) === filter.value;
    case "ne":
      return lookUp(row, filter.key) !== filter.value;
    case "in":
      return filter.values.some((candidate) => candidate === lookUp(row, filter.key));
    case "nin":
      return filter.values.every((candidate) => candidate !== lookUp(row, filter.key));
    case "gt":
    case "gte":
    case "lt":
    case "lte": {
      const order = compare(lookUp(row, filter.key), filter.value);
      if (order === undefined) return false;
      return { gt: order > 0, gte: order >= 0, lt: order < 0, lte: order <= 0 }[filter.type];
    }
  }
}

function lookUp(row: Json | undefined, key: string): Json | undefined {
  if (typeof row !== "object" || row === null || Array.isArray(row)) return undefined;
  return Object.hasOwn(row, key) ? row[key] : undefined;
}

/** Below, at or above zero as a is to b; undefined where the two have no order. */
function compare(a: Json | undefined, b: string | number): number | undefined {
  if (typeof a === "number" && typeof b === "number") return a === b ? 0 : a < b ? -1 : 1;
  if (typeof a !== "string" || typeof b !== "string") return undefined;
  const [left, right] = [codePoints(a), codePoints(b)];
  const differing = left.findIndex((point, index) => point !== right[index]);
  return differing === -1 ? left.length - right.length : (left[differing] ?? 0) - (right[differing] ?? -1);
}

function codePoints(text: string): number[] {
  return Array.from(text, (character) => character.codePointAt(0) ?? 0);
}

/** JSON has one zero. */
function roundTrip(value: Json): Json {
  return JSON.parse(JSON.stringify(value)) as Json;
}
