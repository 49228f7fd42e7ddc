import { expect, test } from "vitest";
import { countMatches, indexablePart, keysOf, type SampledValue } from "../../../src/filters/share.ts";
import { attributeIndexName, type Attribute } from "../../../src/filters/attribute-index.ts";
import { isIndexedByMetadata, type Filter } from "../../../src/filters/sql.ts";
import { planFiltered } from "../../../src/search/walk.ts";

const ROWS = 1_000;
const sample = (storeRows: number) => ({
  storeRows,
  table: "embeddings_1",
  attributeIndexes: new Set<string>(),
  rows: ROWS,
  columns: new Map<string, SampledValue[]>([
    ["place", Array.from({ length: ROWS }, (_, row) => row)],
    ["half", Array.from({ length: ROWS }, (_, row) => row % 2 === 0)],
    [
      "mixed",
      Array.from({ length: ROWS }, (_, row) => [row, `t${row}`, null, true][row % 4] as SampledValue),
    ],
  ]),
});
const lt = (value: number): Filter => ({ type: "lt", key: "place", value });
const ne = (value: number): Filter => ({ type: "ne", key: "mixed", value });
const eq = (key: string, value: number | boolean): Filter => ({ type: "eq", key, value });

test.each<[string, Filter, number, number]>([
  ["walks where most rows match", lt(900), 20_000, 800],
  ["walks where 5 % match: a match at every twentieth of 800 vectors", lt(50), 20_000, 800],
  ["reads where 1 % match, which a walk would find worse and later", lt(10), 20_000, 0],
  ["reads where 0.3 % match", lt(3), 20_000, 0],
  ["reads where none of the sample matches", lt(0), 20_000, 0],
  ["reads small stores where a tenth matches", lt(50), 1_000, 0],
  ["walks large stores where 1 % match", lt(10), 100_000, 4_000],
  ["tries a walk before it reads millions of rows", lt(0), 10_000_000, 400_000],
  ["walks no farther than the rows would take that an index collects", eq("half", true), 10_000, 400],
  ["collects few rows by their index", eq("place", 7), 100_000, 0],
  ["collects few rows and checks the rest", { type: "and", filters: [eq("place", 7), lt(900)] }, 100_000, 0],
])("%s", (_, filter, storeRows, visitsMax) => {
  expect(planFiltered(filter, sample(storeRows), 20).visitsMax).toBe(visitsMax);
});

test("needs no rows to plan", () => {
  expect(planFiltered(lt(5), { ...sample(0), rows: 0, columns: new Map() }, 20).visitsMax).toBe(0);
});

test("collects by the index of an attribute, where it has one of the type", () => {
  const filter: Filter = { type: "and", filters: [lt(20), { type: "ne", key: "half", value: true }] };
  const indexed = (type: "number" | "string") => ({
    ...sample(100_000),
    attributeIndexes: new Set([attributeIndexName("embeddings_1", { key: "place", type })]),
  });
  expect(planFiltered(filter, indexed("string"), 20).visitsMax).toBe(4_000);
  expect(planFiltered(filter, indexed("number"), 20)).toEqual({ visitsMax: 0, lacking: [] });
  // All of this filter is a range of that attribute.
  const range: Filter = { type: "and", filters: [lt(20), { type: "and", filters: [gte(3)] }] };
  expect(planFiltered(range, indexed("string"), 20).range).toBeUndefined();
  expect(planFiltered(range, indexed("number"), 20).range).toEqual({
    attribute: { key: "place", type: "number" },
    conditions: [lt(20), gte(3)],
  });
});

const place: Attribute = { key: "place", type: "number" };
const gte = (value: number): Filter => ({ type: "gte", key: "place", value });

test.each<[string, Filter, number, Attribute[]]>([
  ["that is strong, in a large store", lt(3), 20_000, [place]],
  ["that is weak", lt(500), 20_000, []],
  ["in a small store", lt(3), 4_000, []],
  [
    "with two bounds",
    { type: "and", filters: [gte(400), { type: "and", filters: [lt(403)] }] },
    20_000,
    [place],
  ],
  ["of which equality leaves few", { type: "and", filters: [eq("place", 3), lt(9)] }, 20_000, []],
  ["of which another condition leaves few", { type: "and", filters: [lt(900), ne(3)] }, 20_000, []],
  ["that need not be met", { type: "or", filters: [lt(3), ne(3)] }, 20_000, []],
])("notes the attribute that lacks an index for a filter %s", (_, filter, storeRows, lacking) => {
  expect(planFiltered(filter, sample(storeRows), 20).lacking).toEqual(lacking);
});

test.each<[Filter, number]>([
  [lt(10), 10],
  [{ type: "gte", key: "place", value: 990 }, 10],
  [{ type: "lte", key: "place", value: "9" }, 0],
  [{ type: "gt", key: "mixed", value: "t5" }, 138],
  [{ type: "ne", key: "mixed", value: true }, 750],
  [{ type: "eq", key: "mixed", value: true }, 250],
  [{ type: "in", key: "mixed", values: [0, "t1", true] }, 252],
  [{ type: "nin", key: "mixed", values: [0, "t1", true] }, 748],
  [{ type: "nin", key: "absent", values: [1] }, ROWS],
  [{ type: "gt", key: "absent", value: 1 }, 0],
  [{ type: "and", filters: [lt(10), { type: "ne", key: "half", value: true }] }, 5],
  [{ type: "or", filters: [lt(10), eq("place", 500)] }, 11],
  [{ type: "and", filters: [] }, ROWS],
  [{ type: "or", filters: [] }, 0],
])("counts the matches of %j", (filter, count) => {
  expect(countMatches(filter, sample(0).columns, ROWS)).toBe(count);
});

test.each<[Filter, Filter | undefined]>([
  [lt(1), undefined],
  [eq("a", 1), eq("a", 1)],
  [
    { type: "and", filters: [eq("a", 1), lt(1)] },
    { type: "and", filters: [eq("a", 1)] },
  ],
  [{ type: "or", filters: [eq("a", 1), lt(1)] }, undefined],
  [
    { type: "or", filters: [eq("a", 1), { type: "and", filters: [lt(1), eq("b", 2)] }] },
    { type: "or", filters: [eq("a", 1), { type: "and", filters: [eq("b", 2)] }] },
  ],
  [{ type: "in", key: "a", values: Array.from({ length: 9 }, (_, value) => value) }, undefined],
])("an index collects of %j", (filter, part) => {
  expect(indexablePart(filter, isIndexedByMetadata)).toEqual(part);
});

test("names each key once", () => {
  expect(keysOf({ type: "and", filters: [lt(1), { type: "or", filters: [lt(2), eq("a", 1)] }] })).toEqual([
    "place",
    "a",
  ]);
});
