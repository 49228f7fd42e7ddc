import pg from "pg";
import { invalidArgument } from "../errors.ts";
import { DATE_PATTERN, ZONED_PATTERN } from "./date.ts";
import { isStorable } from "../postgres/text.ts";

/** A value to compare with: a JSON scalar other than null. */
export type FilterValue = string | number | boolean;

/** A condition on metadata; the operators are defined in `proto/pgquiver/v1/filters.proto`. */
export type Filter =
  | { type: "eq" | "ne" | "contains"; key: string; value: FilterValue }
  | { type: "exists"; key: string; isPresent: boolean }
  | { type: "prefix" | "suffix" | "substring"; key: string; value: string }
  | OrderComparison
  /** Texts that are dates are compared as moments. */
  | { type: Ordering; key: string; value: string; as: "date" }
  | { type: "in" | "nin"; key: string; values: FilterValue[] }
  /** The key's value is a list that has one of the texts. Not in the API: see `readers.ts`. */
  | { type: "overlaps"; key: string; values: string[] }
  /** The row's text, not its metadata, has the words. */
  | { type: "text"; value: string }
  /** `not` has one filter. */
  | { type: "and" | "or" | "not"; filters: Filter[] };

/** A comparison of numbers, or of strings by code point. */
export interface OrderComparison {
  type: Ordering;
  key: string;
  value: string | number;
  as?: undefined;
}

/** The words of a store's texts, for filters by words. */
export interface Words {
  /** SQL expression of a row's tsvector. */
  vector: string;
  /** Postgres text search configuration, such as "english". */
  language: string;
}

type Ordering = "gt" | "gte" | "lt" | "lte";

const orderingOperators: Record<Ordering, string> = { gt: ">", gte: ">=", lt: "<", lte: "<=" };

/** Maximum number of values for which `in` is compiled to equalities, which a GIN index can serve. */
const INDEXED_VALUES_MAX = 8;

/** A condition on one key, as opposed to `and`, `or` and `not`. */
export type Comparison = Exclude<Filter, { filters: Filter[] }>;

/** Whether the GIN index on the metadata of a store's own table serves the condition. */
export function isIndexedByMetadata(comparison: Comparison): boolean {
  if (comparison.type === "overlaps" || comparison.type === "contains") return true;
  return comparison.type === "eq" || (comparison.type === "in" && isShort(comparison.values));
}

function isShort(values: readonly FilterValue[]): boolean {
  return values.length > 0 && values.length <= INDEXED_VALUES_MAX;
}

/**
 * Compiles a filter to a boolean SQL expression that is true for every row that matches, and false or null for
 * every other; null only where nothing negates it: `not` is `is not true`.
 *
 * `column` is a quoted SQL expression of type jsonb without side effects, evaluated several times; SQL null,
 * and JSON that is not an object, count as an object without keys. Keys and values are pushed onto `params`
 * and referenced as `$n::type`, so `params` may already hold earlier parameters of the statement.
 *
 * An empty `and` is true, an empty `or` is false. Throws INVALID_ARGUMENT for values that jsonb cannot hold:
 * NUL, a lone surrogate, NaN, an infinity. The caller must limit depth and size. A filter by words needs `words`.
 */
export function compileFilter(filter: Filter, column: string, params: unknown[], words?: Words): string {
  switch (filter.type) {
    case "eq":
      return compileEquality(filter.key, filter.value, column, params);
    case "ne":
      return `not ${compileEquality(filter.key, filter.value, column, params)}`;
    case "in":
      // A GIN index can serve equalities, but not `= any`; for long lists one `= any` test per row is faster.
      return isShort(filter.values)
        ? `(${filter.values.map((value) => compileEquality(filter.key, value, column, params)).join(" or ")})`
        : compileMembership(filter.key, filter.values, column, params);
    case "nin":
      return `not ${compileMembership(filter.key, filter.values, column, params)}`;
    case "contains":
      return compileContainment(column, `{${toJson(filter.key)}:[${toJson(filter.value)}]}`, params);
    case "exists":
      return compileExistence(filter.key, filter.isPresent, column, params);
    case "prefix":
      return compilePrefix(filter.key, filter.value, column, params);
    case "suffix":
    case "substring":
      return compilePart(filter.type, filter.key, filter.value, column, params);
    case "overlaps":
      return compileOverlap(filter.key, filter.values, column, params);
    case "gt":
    case "gte":
    case "lt":
    case "lte":
      return filter.as === "date"
        ? compileDateOrdering(filter, column, params)
        : compileOrdering(filter, column, params);
    case "and":
    case "or":
      if (filter.filters.length === 0) return filter.type === "and" ? "true" : "false";
      return `(${filter.filters.map((part) => compileFilter(part, column, params, words)).join(` ${filter.type} `)})`;
    case "not":
      return `(${compileFilter({ type: "and", filters: filter.filters }, column, params, words)} is not true)`;
    case "text":
      if (words === undefined)
        throw new Error("A filter by words was compiled without the words of its store.");
      return compileText(toText(filter.value), words, params);
  }
}

/**
 * Compiles equality to jsonb containment (`@>`), because a GIN index can serve `@>` but not `column -> key =
 * value`. For an object with one scalar both are equivalent: jsonb's rule that an array contains its elements
 * applies at the top level only, so neither `{"k": ["a"]}` nor `[{"k": "a"}]` contains `{"k": "a"}`.
 */
function compileEquality(key: string, value: FilterValue, column: string, params: unknown[]): string {
  return compileContainment(column, `{${toJson(key)}:${toJson(value)}}`, params);
}

function compileContainment(column: string, json: string, params: unknown[]): string {
  return `(${column} is not null and ${column} @> ${bind(params, json, "jsonb")})`;
}

function compileExistence(key: string, isPresent: boolean, column: string, params: unknown[]): string {
  const exists = `coalesce(jsonb_typeof(${column} -> ${bind(params, toText(key), "text")}) <> 'null', false)`;
  return isPresent ? exists : `not ${exists}`;
}

/** Compiles "begins with" to the operator `^@`, which a B-tree index on the beginning of the text serves. */
function compilePrefix(key: string, prefix: string, column: string, params: unknown[]): string {
  const name = bind(params, toText(key), "text");
  const beginning = bind(params, beginningOf(prefix), "text");
  const full = bind(params, prefix, "text");
  return `(${orderedExpression(column, name, "string")} ^@ ${beginning} and (${column} ->> ${name}) collate "C" ^@ ${full})`;
}

/** Compiles "ends with" and "has in it". LIKE would need its wildcards escaped. */
function compilePart(
  type: "suffix" | "substring",
  key: string,
  part: string,
  column: string,
  params: unknown[],
): string {
  const name = bind(params, toText(key), "text");
  const value = bind(params, toText(part), "text");
  const text = `((case jsonb_typeof(${column} -> ${name}) when 'string' then ${column} ->> ${name} end) collate "C")`;
  return type === "suffix"
    ? `(right(${text}, char_length(${value})) = ${value})`
    : `(strpos(${text}, ${value}) > 0)`;
}

function compileMembership(key: string, values: FilterValue[], column: string, params: unknown[]): string {
  const name = bind(params, toText(key), "text");
  const list = bind(params, values.map(toJson), "jsonb[]");
  return `coalesce(${column} -> ${name} = any(${list}), false)`;
}

/**
 * Compiles "the list has one of the texts" to containments (`@>`), which a GIN index serves. Among 20,000 rows of which a
 * tenth matches one of 100 texts that takes 44 ms, one jsonpath with 100 comparisons 164 ms, and `?|`, which no index
 * serves and which would also find a text and a key of an object, 198 ms.
 */
function compileOverlap(key: string, texts: readonly string[], column: string, params: unknown[]): string {
  if (texts.length === 0) return "false";
  const contained = texts.map((text) => bind(params, `{${toJson(key)}:[${toJson(text)}]}`, "jsonb"));
  return `(${column} is not null and (${contained.map((one) => `${column} @> ${one}`).join(" or ")}))`;
}

/**
 * Compiles a comparison of numbers, or of strings by code point, to `expression operator value`, the only form
 * that a B-tree index on the expression serves. A text is compared twice, by its indexed beginning and in full:
 * a B-tree holds at most 2,704 bytes per row, and would refuse rows with longer texts.
 */
function compileOrdering(
  { type, key, value }: OrderComparison,
  column: string,
  params: unknown[],
  name = bind(params, toText(key), "text"),
  bindValue = bind,
): string {
  const operator = orderingOperators[type];
  if (typeof value === "number")
    return `${orderedExpression(column, name, "number")} ${operator} ${bindValue(params, toJson(value), "numeric")}`;
  const beginning = bindValue(params, beginningOf(value), "text");
  const full = bind(params, value, "text");
  return `(${orderedExpression(column, name, "string")} ${operator[0]}= ${beginning} and (${column} ->> ${name}) collate "C" ${operator} ${full})`;
}

/**
 * Compiles conditions of order on one key, all to be met, so that the planner takes the attribute's index, whatever the
 * values are: it sees the key, as the index's expression has it, and no value, since a scalar subquery hides it.
 */
export function compileRange(range: readonly OrderComparison[], column: string, params: unknown[]): string {
  const hide = (all: unknown[], value: unknown, type: string) => `(select ${bind(all, value, type)})`;
  const compile = (part: OrderComparison) =>
    compileOrdering(part, column, params, `${pg.escapeLiteral(toText(part.key))}::text`, hide);
  return range.map(compile).join(" and ");
}

/** Compiles a comparison of moments. A cast to timestamptz is not immutable, so no index can serve it. */
function compileDateOrdering(
  { type, key, value }: { type: Ordering; key: string; value: string },
  column: string,
  params: unknown[],
): string {
  const text = `(${column} ->> ${bind(params, toText(key), "text")})`;
  const pattern = bind(params, DATE_PATTERN, "text");
  const zoned = bind(params, ZONED_PATTERN, "text");
  const toMoment = (date: string) =>
    `(${date} || case when ${date} ~ ${zoned} then '' when length(${date}) = 10 then ' 00:00:00Z' else 'Z' end)::timestamptz`;
  // Only CASE keeps the cast from texts that are no dates: AND may evaluate its operands in any order. A number or an
  // object is not written as a date.
  const moment = `case when ${text} ~ ${pattern} then ${toMoment(text)} end`;
  return `(${moment} ${orderingOperators[type]} ${toMoment(bind(params, value, "text"))})`;
}

/** Compiles the condition that a text has the words, in the syntax of search engines: a GIN index on the words serves it. */
function compileText(text: string, { vector, language }: Words, params: unknown[]): string {
  const configuration = pg.escapeLiteral(pg.escapeIdentifier(language));
  return `(${vector} @@ websearch_to_tsquery(${configuration}::regconfig, ${bind(params, text, "text")}))`;
}

/** As much of a text as an index has. */
function beginningOf(text: string): string {
  return Array.from(toText(text)).slice(0, INDEXED_CHARS).join("");
}

/** The types of values that have an order. */
export type AttributeType = "number" | "string";

/** Characters (code points) of a text that an index keeps. */
const INDEXED_CHARS = 128;

/**
 * The expression that an ordering compares: a key's value as a number, or the beginning of its text; null for
 * values of other types. `key` is an SQL expression. The cast is inside CASE, because AND may evaluate its
 * operands in any order and the cast would then fail for values of other types.
 */
export function orderedExpression(column: string, key: string, type: AttributeType): string {
  return type === "number"
    ? `(case jsonb_typeof(${column} -> ${key}) when 'number' then (${column} -> ${key})::numeric end)`
    : `((case jsonb_typeof(${column} -> ${key}) when 'string' then left(${column} ->> ${key}, ${INDEXED_CHARS}) end) collate "C")`;
}

/** Adds a parameter to a statement and returns the SQL that references it, `$n::type`. */
export function bind(params: unknown[], value: unknown, type: string): string {
  return `$${params.push(value)}::${type}`;
}

/**
 * Converts a value to JSON text. JSON's notation of a double, such as 1e+21 or 5e-324, is also valid for
 * `numeric`.
 */
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
