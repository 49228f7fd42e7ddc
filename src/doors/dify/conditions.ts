import type { MessageShape } from "@bufbuild/protobuf";
import { FilterSchema } from "../../../gen/pgquiver/v1/filters_pb.ts";
import { invalidArgument, missingParameter } from "../../errors.ts";
import { limits } from "../../limits.ts";
import { readMessage } from "../../wire/rest/json-reader.ts";
import { isObject } from "../../wire/rest/json-reader.ts";
import { readText, type Json } from "../json.ts";

/** Dify's operators that filters have, and what their value has to be. */
const OPERATORS: ReadonlyMap<string, { type: string; value: "any" | "number" | "list" | "time" }> = new Map([
  ["is", { type: "eq", value: "any" }],
  ["is not", { type: "ne", value: "any" }],
  ["in", { type: "in", value: "list" }],
  ["not in", { type: "nin", value: "list" }],
  ["=", { type: "eq", value: "number" }],
  ["≠", { type: "ne", value: "number" }],
  [">", { type: "gt", value: "number" }],
  ["<", { type: "lt", value: "number" }],
  ["≥", { type: "gte", value: "number" }],
  ["≤", { type: "lte", value: "number" }],
  ["before", { type: "lt", value: "time" }],
  ["after", { type: "gt", value: "time" }],
]);

/**
 * Converts Dify's `metadata_condition` to a filter; undefined: there are no conditions. Throws INVALID_ARGUMENT for
 * operators that filters do not have, since leaving out a condition would show what it excludes.
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
  const known = OPERATORS.get(operator);
  if (known === undefined) {
    const supported = [...OPERATORS.keys()].map((one) => `'${one}'`).join(", ");
    throw invalidArgument(
      `${path}.comparison_operator`,
      `Unsupported comparison_operator '${operator}' in '${path}'. Supported are ${supported}.`,
    );
  }
  const value = item["value"] ?? undefined;
  if (value === undefined) throw missingParameter(`${path}.value`);
  return {
    type: known.type,
    key: readText(item, "name", `${path}.name`),
    value: convert(value, known.value, `${path}.value`),
  };
}

/** Dify sends numbers as texts too, and lists as texts with commas. */
function convert(value: unknown, expected: "any" | "number" | "list" | "time", path: string): unknown {
  if (expected === "list")
    return typeof value === "string" ? value.split(",").map((item) => item.trim()) : value;
  if (expected === "any" || typeof value === "number") return value;
  const isNumeric =
    typeof value === "string" && value.length <= limits.filter_key_chars_max && value.trim() !== "";
  const number = isNumeric ? Number(value) : NaN;
  if (Number.isFinite(number)) return number;
  if (expected === "time") return value;
  throw invalidArgument(path, `Invalid type for '${path}': expected a number.`, "INVALID_TYPE");
}
