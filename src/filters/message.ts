import type { Value } from "@bufbuild/protobuf/wkt";
import {
  FilterType,
  FilterValueType,
  type Filter as FilterMessage,
} from "../../gen/pgquiver/v1/filters_pb.ts";
import { checkText, checkLength } from "../api/checks.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";
import { isDate } from "./date.ts";
import type { Filter, FilterValue } from "./sql.ts";

const COMPARISONS = new Map<number, Exclude<Filter["type"], "and" | "or" | "not" | "overlaps" | "text">>([
  [FilterType.EQ, "eq"],
  [FilterType.NE, "ne"],
  [FilterType.GT, "gt"],
  [FilterType.GTE, "gte"],
  [FilterType.LT, "lt"],
  [FilterType.LTE, "lte"],
  [FilterType.IN, "in"],
  [FilterType.NIN, "nin"],
  [FilterType.EXISTS, "exists"],
  [FilterType.CONTAINS, "contains"],
  [FilterType.PREFIX, "prefix"],
  [FilterType.SUFFIX, "suffix"],
  [FilterType.SUBSTRING, "substring"],
]);
const JOINTS = new Map<number, "and" | "or" | "not">([
  [FilterType.AND, "and"],
  [FilterType.OR, "or"],
  [FilterType.NOT, "not"],
]);

/**
 * Validates a filter message, including its depth and size, and converts it to a Filter. Throws
 * INVALID_ARGUMENT, naming the part of `param` that is wrong.
 */
export function readFilter(message: FilterMessage, param = "filters"): Filter {
  let conditions = 0;
  return read(message, param, 1);

  function read(node: FilterMessage, path: string, depth: number): Filter {
    if (depth > limits.filter_depth_max) {
      throw invalidArgument(
        param,
        `Invalid '${param}': nested deeper than ${limits.filter_depth_max} levels.`,
      );
    }
    if (++conditions > limits.filter_conditions_max) {
      throw invalidArgument(
        param,
        `Invalid '${param}': more than ${limits.filter_conditions_max} conditions.`,
      );
    }
    if (node.type === FilterType.UNSPECIFIED) throw missingParameter(`${path}.type`);
    if (node.type === FilterType.TEXT) return readText(node, path);
    const type = JOINTS.get(node.type);
    if (type === undefined) return readComparison(node, path);
    refuse(node.key !== undefined, `${path}.key`, type);
    refuse(node.value !== undefined, `${path}.value`, type);
    refuse(node.valueType !== undefined, `${path}.value_type`, type);
    if (node.filters.length === 0) throw missingParameter(`${path}.filters`);
    if (type === "not" && node.filters.length > 1)
      throw invalidArgument(`${path}.filters`, `Invalid '${path}.filters': 'not' takes one condition.`);
    return {
      type,
      filters: node.filters.map((child, index) => read(child, `${path}.filters[${index}]`, depth + 1)),
    };
  }
}

/** Reads a condition on the text. */
function readText({ key, value, filters, valueType }: FilterMessage, path: string): Filter {
  refuse(key !== undefined, `${path}.key`, "text");
  refuse(filters.length > 0, `${path}.filters`, "text");
  refuse(valueType !== undefined, `${path}.value_type`, "text");
  if (value === undefined) throw missingParameter(`${path}.value`);
  const text = readScalar(value, `${path}.value`);
  if (typeof text !== "string") throw wrongValue(`${path}.value`, "a string");
  checkText(text, `${path}.value`, limits.filter_text_chars_max);
  return { type: "text", value: text };
}

function readComparison(node: FilterMessage, path: string): Filter {
  const type = COMPARISONS.get(node.type);
  if (type === undefined)
    throw invalidArgument(`${path}.type`, `Invalid value: '${node.type}' is not a filter type.`);
  refuse(node.filters.length > 0, `${path}.filters`, type);
  const { key } = node;
  if (key === undefined || key === "") throw missingParameter(`${path}.key`);
  checkText(key, `${path}.key`, limits.filter_key_chars_max);
  const { value } = node;
  if (node.valueType !== undefined) return readDates(node, type, key, path);
  if (type === "exists")
    return { type, key, isPresent: value === undefined || readBoolean(value, `${path}.value`) };
  if (value === undefined) throw missingParameter(`${path}.value`);
  const valuePath = `${path}.value`;
  switch (type) {
    case "in":
    case "nin":
      return { type, key, values: readList(value, valuePath) };
    case "gt":
    case "gte":
    case "lt":
    case "lte": {
      const bound = readScalar(value, valuePath);
      if (typeof bound === "boolean") throw wrongValue(valuePath, "a string or a number");
      return { type, key, value: bound };
    }
    case "prefix":
    case "suffix":
    case "substring": {
      const part = readScalar(value, valuePath);
      if (typeof part !== "string") throw wrongValue(valuePath, "a string");
      return { type, key, value: part };
    }
    case "eq":
    case "ne":
    case "contains":
      return { type, key, value: readScalar(value, valuePath) };
  }
}

/** Reads a comparison of dates. */
function readDates(
  { value, valueType }: FilterMessage,
  type: Filter["type"],
  key: string,
  path: string,
): Filter {
  refuse(type !== "gt" && type !== "gte" && type !== "lt" && type !== "lte", `${path}.value_type`, type);
  if (valueType !== FilterValueType.DATE) {
    const param = `${path}.value_type`;
    throw invalidArgument(param, `Invalid value: '${valueType}'. Supported values are: 'date'.`);
  }
  if (value === undefined) throw missingParameter(`${path}.value`);
  const date = readScalar(value, `${path}.value`);
  if (typeof date !== "string" || !isDate(date))
    throw wrongValue(`${path}.value`, "a date of RFC 3339, such as '2024-05-01' or '2024-05-01T12:00:00Z'");
  return { type: type as "gt", key, value: date, as: "date" };
}

function readList({ kind }: Value, path: string): FilterValue[] {
  if (kind.case !== "listValue") throw wrongValue(path, "a list");
  const { values } = kind.value;
  checkLength(path, values.length, limits.filter_list_items_max);
  return values.map((item, index) => readScalar(item, `${path}[${index}]`));
}

function readBoolean({ kind }: Value, path: string): boolean {
  if (kind.case === "boolValue") return kind.value;
  throw wrongValue(path, "a boolean");
}

function readScalar({ kind }: Value, path: string): FilterValue {
  switch (kind.case) {
    case "stringValue":
      if (!kind.value.isWellFormed())
        throw invalidArgument(path, `Invalid '${path}': the text has a lone surrogate.`);
      checkText(kind.value, path, limits.metadata_bytes_max);
      return kind.value;
    case "numberValue":
      if (!Number.isFinite(kind.value))
        throw invalidArgument(path, `Invalid '${path}': expected a finite number.`);
      return kind.value;
    case "boolValue":
      return kind.value;
    default:
      throw wrongValue(path, "a string, a number or a boolean");
  }
}

function refuse(isPresent: boolean, path: string, type: string): void {
  if (isPresent) throw invalidArgument(path, `Invalid '${path}': not allowed in a filter of type '${type}'.`);
}

function wrongValue(path: string, expected: string) {
  return invalidArgument(path, `Invalid type for '${path}': expected ${expected}.`, "INVALID_TYPE");
}
