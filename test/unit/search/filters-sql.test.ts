import { describe, expect, test } from "vitest";
import { reasonOf } from "../../../src/errors.ts";
import { compileFilter, type Filter } from "../../../src/filters/sql.ts";

const column = '"embeddings"."metadata"';

test("numbers its parameters after those already there", () => {
  const params: unknown[] = ["vs_1", 10];
  const sql = compileFilter(
    {
      type: "and",
      filters: [
        { type: "eq", key: "lang", value: "en" },
        { type: "gte", key: "year", value: 2024 },
      ],
    },
    column,
    params,
  );
  expect(params).toEqual(["vs_1", 10, '{"lang":"en"}', "year", "2024"]);
  expect(sql.match(/\$\d+::\w+/g)).toEqual(["$3::jsonb", "$4::text", "$4::text", "$5::numeric"]);
});

test("keeps every key and value out of the SQL text", () => {
  const hostile = `'); drop table embeddings; --"\\`;
  const filters: Filter[] = [
    { type: "ne", key: hostile, value: hostile },
    { type: "lt", key: hostile, value: hostile },
    { type: "nin", key: hostile, values: [hostile] },
  ];
  const sql = compileFilter({ type: "or", filters }, column, []);
  expect(sql).not.toContain("drop");
});

test("orders texts by code point whatever collation the database has", () => {
  expect(compileFilter({ type: "gt", key: "k", value: "a" }, column, [])).toContain('collate "C"');
});

test.each([
  [1e21, "1e+21"],
  [-0, "0"],
  [5e-324, "5e-324"],
  [0.1 + 0.2, "0.30000000000000004"],
])("binds the number %d as %s", (value, text) => {
  const params: unknown[] = [];
  compileFilter({ type: "gt", key: "n", value }, column, params);
  compileFilter({ type: "eq", key: "n", value }, column, params);
  compileFilter({ type: "nin", key: "n", values: [value] }, column, params);
  expect(params).toEqual(["n", text, `{"n":${text}}`, "n", [text]]);
});

test("joining nothing is true for and, false for or", () => {
  expect(compileFilter({ type: "and", filters: [] }, column, [])).toBe("true");
  expect(compileFilter({ type: "or", filters: [] }, column, [])).toBe("false");
});

describe.each([
  ["not a number", NaN],
  ["an infinity", -Infinity],
  ["NUL", "a\0b"],
  ["half a surrogate pair", "a\ud83d"],
])("refuses %s as a value", (_name, value) => {
  test.each<Filter>([
    { type: "eq", key: "k", value },
    { type: "lte", key: "k", value },
    { type: "in", key: "k", values: ["fine", value] },
  ])("of $type", (filter) => {
    expect(refusalOf(filter)).toBe("INVALID_VALUE");
  });
});

test.each<Filter>([
  { type: "ne", key: "\0", value: 1 },
  { type: "gt", key: "\0", value: 1 },
  { type: "nin", key: "\0", values: [1] },
])("refuses a key jsonb cannot hold in $type", (filter) => {
  expect(refusalOf(filter)).toBe("INVALID_VALUE");
});

function refusalOf(filter: Filter): string | undefined {
  try {
    compileFilter(filter, column, []);
  } catch (error) {
    return reasonOf(error);
  }
  return undefined;
}
