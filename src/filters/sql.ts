import { invalidArgument } from "../errors.ts";
import { isStorable } from "../postgres/text.ts";

/** What a metadata key is compared with: a JSON scalar other than null. */
export type FilterValue = string | number | boolean;

/** A condition on metadata; `proto/pgquiver/v1/filters.proto` says what each operator means. */
export type Filter =
  | { type: "eq" | "ne"; key: string; value: FilterValue }
  | { type: Ordering; key: string; value: string | number }
  | { type: "in" | "nin"; key: string; values: FilterValue[] }
  | { type: "and" | "or"; filters: Filter[] };

type Ordering = "gt" | "gte" | "lt" | "lte";

const orderingOperators: Record<Ordering, string> = { gt: ">", gte: ">=", lt: "<", lte: "<=" };

/** Values of an `in` that are looked up in an index one by one. */
const INDEXED_VALUES_MAX = 8;

/**
 * Compiles a filter to a boolean SQL expression that is true or false for every row, never null.
 *
 * `column` is a quoted expression of type jsonb, evaluated several times; where it is SQL null, or
 * no JSON object, it has no keys. Keys and values are pushed onto `params` and referred to as
 * `$n::type`, so the expression fits into a statement whose earlier parameters are already there.
 *
 * `and` of nothing is true, `or` of nothing false. Throws INVALID_ARGUMENT on what jsonb cannot hold:
 * NUL, half a surrogate pair, NaN, an infinity. Depth and size are the caller's to limit.
 */
export function compileFilter(filter: Filter, column: string, params: unknown[]): string {
  switch (filter.type) {
    case "eq":
      return compileEquality(filter.key, filter.value, column, params);
    case "ne":
      return `not ${compileEquality(filter.key, filter.value, column, params)}`;
    case "in":
      // A GIN index serves equalities, and a list is tested faster as a whole.
      return filter.values.length > 0 && filter.values.length <= INDEXED_VALUES_MAX
        ? `(${filter.values.map((value) => compileEquality(filter.key, value, column, params)).join(" or ")})`
        : compileMembership(filter.key, filter.values, column, params);
    case "nin":
      return `not ${compileMembership(filter.key, filter.values, column, params)}`;
    case "gt":
    case "gte":
    case "lt":
    case "lte":
      return compileOrdering(filter.type, filter.key, filter.value, column, params);
    case "and":
    case "or":
      if (filter.filters.length === 0) return filter.type === "and" ? "true" : "false";
      return `(${filter.filters.map((part) => compileFilter(part, column, params)).join(` ${filter.type} `)})`;
  }
}

/**
 * Containment rather than `column -> key = value`, because a GIN index serves it. For an object
 * holding one scalar both mean the same: that an array contains its elements holds only at the top
 * level of jsonb, so neither `{"k": ["a"]}` nor `[{"k": "a"}]` contains `{"k": "a"}`.
 */
function compileEquality(key: string, value: FilterValue, column: string, params: unknown[]): string {
  const pair = bind(params, `{${toJson(key)}:${toJson(value)}}`, "jsonb");
  return `(${column} is not null and ${column} @> ${pair})`;
}

function compileMembership(key: string, values: FilterValue[], column: string, params: unknown[]): string {
  const name = bind(params, toText(key), "text");
  const list = bind(params, values.map(toJson), "jsonb[]");
  return `coalesce(${column} -> ${name} = any(${list}), false)`;
}

/** The cast stands inside CASE because AND may evaluate its operands in any order. */
function compileOrdering(
  type: Ordering,
  key: string,
  value: string | number,
  column: string,
  params: unknown[],
): string {
  const name = bind(params, toText(key), "text");
  const comparison =
    typeof value === "number"
      ? `'number' then (${column} -> ${name})::numeric ${orderingOperators[type]} ${bind(params, toJson(value), "numeric")}`
      : `'string' then (${column} ->> ${name}) collate "C" ${orderingOperators[type]} ${bind(params, toText(value), "text")}`;
  return `case jsonb_typeof(${column} -> ${name}) when ${comparison} else false end`;
}

/** Adds a parameter to a statement and returns what refers to it. */
export function bind(params: unknown[], value: unknown, type: string): string {
  return `$${params.push(value)}::${type}`;
}

/** JSON's spelling of a number is also one of `numeric`, exact for every double (1e+21, 5e-324). */
function toJson(value: FilterValue): string {
  if (typeof value === "number" && !Number.isFinite(value)) {
    throw invalidArgument("filters", "A number in a filter must be finite.");
  }
  return JSON.stringify(typeof value === "string" ? toText(value) : value);
}

function toText(value: string): string {
  if (!isStorable(value) || !value.isWellFormed()) {
    throw invalidArgument("filters", "A text in a filter must be valid Unicode without NUL characters.");
  }
  return value;
}
