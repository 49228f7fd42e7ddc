// Generated filters run over a fixed table of generated metadata; each must match exactly the rows
// that a plain evaluator of the same filter matches. Keys and values come mostly from small pools,
// or else hardly any generated filter would match a row. A failure prints its seed and path.
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { rangeOf } from "../../src/filters/attribute-index.ts";
import { compileFilter, compileRange, type Filter } from "../../src/filters/sql.ts";
import { openTestDatabase } from "../support/databases/database.ts";
import { filter, matches, metadata, roundTrip, type Json } from "../support/stores/filters.ts";

const seed = 20_261_122;
const filtersTried = 2_000;

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
  let ranges = 0;
  await fc.assert(
    fc.asyncProperty(filter, async (filter) => {
      const want = rows.map((row) => matches(filter, row));
      want.forEach((verdict) =>
        verdicts.set(filter.type, (verdicts.get(filter.type) ?? new Set()).add(verdict)),
      );
      expect(await evaluate(filter)).toEqual(want);
      const range = rangeOf(filter);
      if (range === undefined) return;
      ranges++;
      const compile = (_: Filter, ...rest: [string, unknown[]]) => compileRange(range.conditions, ...rest);
      expect(await evaluate(filter, compile)).toEqual(want);
    }),
    { seed, numRuns: filtersTried },
  );
  expect(ranges).toBeGreaterThan(100);
  // Every operator, as the outermost one, must have met rows it matches and rows it does not.
  for (const type of [
    "eq",
    "ne",
    "gt",
    "gte",
    "lt",
    "lte",
    "in",
    "nin",
    "and",
    "or",
    "not",
    "suffix",
    "substring",
  ]) {
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
async function evaluate(filter: Filter, compile = compileFilter): Promise<unknown> {
  const params: unknown[] = [];
  const sql = compile(filter, '"samples"."metadata"', params);
  const result = await database.pool.query(
    `select array_agg(coalesce(${sql}, false) order by id) as verdicts from samples`,
    params,
  );
  return result.rows[0].verdicts;
}
