import { invalidArgument, missingParameter } from "../errors.ts";
import { isObject } from "../wire/rest/json-reader.ts";

/** A JSON object. */
export type Json = Record<string, unknown>;

/** Returns a body that has to be an object; no body is an empty one. */
export function readObject(value: unknown, name = "body"): Json {
  if (value === undefined || value === null) return {};
  if (isObject(value)) return value;
  throw invalidArgument(name, `Invalid type for '${name}': expected an object.`, "INVALID_TYPE");
}

/** Reads a text that is required. */
export function readText(json: Json, name: string, path = name): string {
  const value = json[name];
  if (value === undefined || value === null || value === "") throw missingParameter(path);
  if (typeof value === "string") return value;
  throw invalidArgument(path, `Invalid type for '${path}': expected a string.`, "INVALID_TYPE");
}

/** Reads a number; undefined when it is absent or null. */
export function readNumber(json: Json, name: string, path = name): number | undefined {
  const value = json[name];
  if (value === undefined || value === null) return undefined;
  if (typeof value === "number") return value;
  throw invalidArgument(path, `Invalid type for '${path}': expected a number.`, "INVALID_TYPE");
}

/** Reads how many results are asked for; more than `max` is reduced to that. Undefined when it is absent or null. */
export function readCount(json: Json, name: string, max: number, path = name): number | undefined {
  const count = readNumber(json, name, path);
  if (count === undefined) return undefined;
  if (Number.isInteger(count) && count >= 1) return Math.min(count, max);
  throw invalidArgument(path, `Invalid '${path}': expected an integer of at least 1.`);
}
