import fc from "fast-check";
import type { Filter, FilterValue } from "../../../src/filters/sql.ts";

/** A JSON value. */
export type Json = null | FilterValue | Json[] | { [key: string]: Json };

/** Keys of metadata, few, so that generated filters meet generated rows. */
export const keys = [
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
// The two spellings of é, and U+E000 and U+FFFF, which precede U+1F600 by code point but not by UTF-16 unit.
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
/** Texts that look like dates, and the microseconds since 1970 of those that are: the others match no comparison of dates. */
const moments = new Map<string, number>([
  ["0001-01-01", -62_135_596_800e6],
  ["1970-01-01", 0],
  ["1970-01-01T02:00:00+02:00", 0],
  ["1970-01-01 00:00:00", 0],
  ["1970-01-01t00:00:00z", 0],
  ["1970-01-01T00:00:00.000001Z", 1],
  ["1969-12-31T23:59:59.5-00:00", -500_000],
  ["1969-12-31T08:30:00-15:30", 0],
  ["2000-02-29", 951_782_400e6],
  ["2024-02-29T12:00:00", 1_709_208_000e6],
  ["9999-12-31T23:59:59Z", 253_402_300_799e6],
]);
const undated = [
  "0000-01-01",
  "1900-02-29",
  "2023-02-29",
  "2024-04-31",
  "2024-13-01",
  "2024-1-1",
  "2024-01-01T24:00:00Z",
  "2024-01-01T12:00Z",
  "2024-01-01T00:00:00+16:00",
  "2024-01-01 ",
  "infinity",
  "now",
];
const numbers = [0, -0, 1, -1, 1.5, 0.1, 1e21, 1e22, 5e-324, -5e-324, 2 ** 53, 1.7976931348623157e308];

const key = fc.constantFrom(...keys);
const date = fc.constantFrom(...moments.keys());
const text = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom(...texts) },
  { weight: 3, arbitrary: date },
  { weight: 1, arbitrary: fc.constantFrom(...undated) },
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
/** Metadata of many shapes; undefined stands for SQL null. */
export const metadata: fc.Arbitrary<Json | undefined> = fc.oneof(
  { weight: 20, arbitrary: json.object },
  { weight: 1, arbitrary: json.value },
  { weight: 1, arbitrary: fc.array(json.object, { maxLength: 2 }) },
  { weight: 1, arbitrary: fc.constant(undefined) },
);

const comparison: fc.Arbitrary<Filter> = fc.oneof(
  fc.record({ type: fc.constantFrom("eq", "ne"), key, value: scalar }),
  fc.record({ type: fc.constantFrom("gt", "gte", "lt", "lte"), key, value: fc.oneof(text, number) }),
  fc.record({
    type: fc.constantFrom("gt", "gte", "lt", "lte"),
    key,
    value: date,
    as: fc.constant("date" as const),
  }),
  fc.record({ type: fc.constantFrom("in", "nin"), key, values: fc.array(scalar, { maxLength: 12 }) }),
  fc.record({
    type: fc.constant("overlaps" as const),
    key,
    values: fc.array(text, { maxLength: 12 }),
  }),
  fc.record({ type: fc.constant("contains" as const), key, value: scalar }),
  fc.record({ type: fc.constant("exists" as const), key, isPresent: fc.boolean() }),
  fc.record({ type: fc.constantFrom("prefix", "suffix", "substring"), key, value: text }),
);
/** Filters of all operators, nested. */
export const { filter } = fc.letrec<{ filter: Filter }>((tie) => ({
  filter: fc.oneof(
    { maxDepth: 4 },
    comparison,
    fc.record({ type: fc.constantFrom("and", "or"), filters: fc.array(tie("filter"), { maxLength: 3 }) }),
    fc.record({ type: fc.constant("not" as const), filters: fc.tuple(tie("filter")) }),
  ),
}));

/** Whether a row matches, by a plain evaluator of the filter. */
export function matches(filter: Filter, row: Json | undefined): boolean {
  switch (filter.type) {
    case "and":
      return filter.filters.every((part) => matches(part, row));
    case "or":
      return filter.filters.some((part) => matches(part, row));
    case "not":
      return !filter.filters.some((part) => matches(part, row));
    case "text":
      throw new Error("Metadata has no text.");
    case "eq":
      return lookUp(row, filter.key) === filter.value;
    case "ne":
      return lookUp(row, filter.key) !== filter.value;
    case "in":
      return filter.values.some((candidate) => candidate === lookUp(row, filter.key));
    case "nin":
      return filter.values.every((candidate) => candidate !== lookUp(row, filter.key));
    case "overlaps": {
      const list = lookUp(row, filter.key);
      return Array.isArray(list) && filter.values.some((text) => list.includes(text));
    }
    case "contains": {
      const list = lookUp(row, filter.key);
      return Array.isArray(list) && list.includes(filter.value);
    }
    case "exists":
      return ((lookUp(row, filter.key) ?? null) !== null) === filter.isPresent;
    case "prefix": {
      const whole = lookUp(row, filter.key);
      return typeof whole === "string" && whole.startsWith(filter.value);
    }
    case "suffix": {
      const whole = lookUp(row, filter.key);
      return typeof whole === "string" && whole.endsWith(filter.value);
    }
    case "substring": {
      const whole = lookUp(row, filter.key);
      return typeof whole === "string" && whole.includes(filter.value);
    }
    case "gt":
    case "gte":
    case "lt":
    case "lte": {
      const value = lookUp(row, filter.key);
      const order = filter.as === "date" ? compareMoments(value, filter.value) : compare(value, filter.value);
      if (order === undefined) return false;
      return { gt: order > 0, gte: order >= 0, lt: order < 0, lte: order <= 0 }[filter.type];
    }
  }
}

function lookUp(row: Json | undefined, key: string): Json | undefined {
  if (typeof row !== "object" || row === null || Array.isArray(row)) return undefined;
  return Object.hasOwn(row, key) ? row[key] : undefined;
}

/** As `compare`, of texts that are dates. */
function compareMoments(a: Json | undefined, b: string): number | undefined {
  const [left, right] = [typeof a === "string" ? moments.get(a) : undefined, moments.get(b)];
  return left === undefined || right === undefined ? undefined : left - right;
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

/** The value as JSON keeps it, which has one zero. */
export function roundTrip(value: Json): Json {
  return JSON.parse(JSON.stringify(value)) as Json;
}
