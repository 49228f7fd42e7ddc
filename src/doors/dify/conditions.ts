import type { MessageShape } from "@bufbuild/protobuf";
import { FilterSchema } from "../../../gen/pgquiver/v1/filters_pb.ts";
import { invalidArgument, missingParameter } from "../../errors.ts";
import { limits } from "../../limits.ts";
import { readMessage } from "../../wire/rest/json-reader.ts";
import { isObject } from "../../wire/rest/json-reader.ts";
import { readText, type Json } from "../json.ts";

/** Makes a filter, in the shape of the API, of a condition's key and value. `path` names the value in errors. */
type Convert = (key: string, value: unknown, path: string) => Json;

/** Dify's operators. Those beside `empty` and `not empty` need a value. */
const OPERATORS: ReadonlyMap<string, Convert> = new Map<string, Convert>([
  ["contains", toContainment],
  ["not contains", (key, value, path) => negate(toContainment(key, value, path))],
  ["start with", (key, value, path) => ({ type: "prefix", key, value: toText(value, path) })],
  ["end with", (key, value, path) => ({ type: "suffix", key, value: toText(value, path) })],
  ["is", (key, value) => toMembership(key, [value])],
  ["is not", (key, value) => negate(toMembership(key, [value]))],
  ["in", (key, value) => toMembership(key, toList(value))],
  ["not in", (key, value) => negate(toMembership(key, toList(value)))],
  ["empty", (key) => negate(toPresence(key))],
  ["not empty", toPresence],
  ["=", (key, value, path) => ({ type: "eq", key, value: toNumber(value, path) })],
  ["≠", (key, value, path) => ({ type: "ne", key, value: toNumber(value, path) })],
  [">", (key, value, path) => ({ type: "gt", key, value: toNumber(value, path) })],
  ["<", (key, value, path) => ({ type: "lt", key, value: toNumber(value, path) })],
  ["≥", (key, value, path) => ({ type: "gte", key, value: toNumber(value, path) })],
  ["≤", (key, value, path) => ({ type: "lte", key, value: toNumber(value, path) })],
  ["before", (key, value, path) => toMoment("lt", key, value, path)],
  ["after", (key, value, path) => toMoment("gt", key, value, path)],
]);
const UNARY: ReadonlySet<string> = new Set(["empty", "not empty"]);

/**
 * Converts Dify's `metadata_condition` to a filter; undefined: there are no conditions. Throws INVALID_ARGUMENT for
 * operators that Dify does not have, since leaving out a condition would show what it excludes.
 */
export function toFilter(condition: unknown): MessageShape<typeof FilterSchema> | undefined {
  const path = "metadata_condition";
  if (condition === undefined || condition === null) return undefined;
  if (!isObject(condition)) throw invalidArgument(path, `Invalid type for '${path}': expected an object.`);
  const conditions = condition["conditions"] ?? [];
  if (!Array.isArray(conditions))
    throw invalidArgument(`${path}.conditions`, `Invalid type for '${path}.conditions': expected an array.`);
  if (conditions.length === 0) return undefined;
  const type = condition["logical_operator"] ?? "and";
  if (type !== "and" && type !== "or")
    throw invalidArgument(
      `${path}.logical_operator`,
      `Invalid '${path}.logical_operator': expected 'and' or 'or'.`,
    );
  const filters = conditions.map((item, index) => toComparison(item, `${path}.conditions[${index}]`));
  return readMessage(FilterSchema, { type, filters }, path) as MessageShape<typeof FilterSchema>;
}

function toComparison(item: unknown, path: string): Json {
  if (!isObject(item)) throw invalidArgument(path, `Invalid type for '${path}': expected an object.`);
  const operator = readText(item, "comparison_operator", `${path}.comparison_operator`);
  const convert = OPERATORS.get(operator);
  if (convert === undefined) {
    const supported = [...OPERATORS.keys()].map((one) => `'${one}'`).join(", ");
    throw invalidArgument(
      `${path}.comparison_operator`,
      `Unsupported comparison_operator '${operator}' in '${path}'. Supported are ${supported}.`,
    );
  }
  const value = item["value"] ?? undefined;
  if (value === undefined && !UNARY.has(operator)) throw missingParameter(`${path}.value`);
  return convert(readText(item, "name", `${path}.name`), value, `${path}.value`);
}

function negate(filter: Json): Json {
  return { type: "not", filters: [filter] };
}

/** A text that has the value in it, or a list that has the value. */
function toContainment(key: string, value: unknown, path: string): Json {
  return {
    type: "or",
    filters: [
      { type: "substring", key, value: toText(value, path) },
      { type: "contains", key, value },
    ],
  };
}

/** One of the values. Dify compares texts, and sends numbers as texts too: such a text matches the number as well. */
function toMembership(key: string, values: unknown): Json {
  if (!Array.isArray(values)) return { type: "in", key, value: values };
  const numbers = values.filter((value) => typeof value === "string" && String(Number(value)) === value);
  return { type: "in", key, value: [...values, ...numbers.map(Number).filter(Number.isFinite)] };
}

/** Neither missing, null nor an empty text. */
function toPresence(key: string): Json {
  return {
    type: "and",
    filters: [
      { type: "exists", key },
      { type: "ne", key, value: "" },
    ],
  };
}

/** A time as a number, such as Dify's seconds since 1970, as a date, or as any other text, which is compared as a text. */
function toMoment(type: "lt" | "gt", key: string, value: unknown, path: string): Json {
  if (typeof value === "string" && /^\d{4}-\d\d-\d\d/.test(value))
    return { type, key, value, value_type: "date" };
  const number = findNumber(value);
  return { type, key, value: number ?? toText(value, path) };
}

/** Dify sends lists as texts with commas, too. */
function toList(value: unknown): unknown {
  if (typeof value !== "string") return value;
  return value
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
}

function toText(value: unknown, path: string): string {
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(value);
  throw invalidArgument(path, `Invalid type for '${path}': expected a text.`, "INVALID_TYPE");
}

function toNumber(value: unknown, path: string): number {
  const number = findNumber(value);
  if (number !== undefined) return number;
  throw invalidArgument(path, `Invalid type for '${path}': expected a number.`, "INVALID_TYPE");
}

/** The number that a value is or spells. */
function findNumber(value: unknown): number | undefined {
  if (typeof value === "number") return value;
  const isNumeric =
    typeof value === "string" && value.length <= limits.filter_key_chars_max && value.trim() !== "";
  const number = isNumeric ? Number(value) : NaN;
  return Number.isFinite(number) ? number : undefined;
}
