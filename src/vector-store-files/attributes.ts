import type { JsonObject } from "@bufbuild/protobuf";
import type { Attributes } from "./rows.ts";
import { invalidArgument } from "../errors.ts";
import { READERS_KEY } from "../filters/readers.ts";
import { limits } from "../limits.ts";
import { checkLength, checkPairs, checkText } from "../api/checks.ts";

/**
 * Checks a file's attributes: up to 16, each a string of up to 512 characters, a finite number or a boolean; `readers` may
 * also be a list of such strings.
 * Returns null when the request has none. Throws INVALID_ARGUMENT.
 */
export function readAttributes(attributes: JsonObject | undefined, param = "attributes"): Attributes | null {
  if (attributes === undefined) return null;
  const pairs = Object.entries(attributes);
  checkPairs(param, pairs.length, limits.attribute_pairs_max);
  for (const [key, value] of pairs) {
    if (key === "") throw invalidArgument(param, `Invalid '${param}': a key is empty.`);
    checkUnicode(key, param);
    checkText(key, param, limits.attribute_key_chars_max);
    if (key === READERS_KEY && Array.isArray(value)) checkReaders(value, `${param}.${key}`);
    else checkValue(value, `${param}.${key}`);
  }
  return attributes as Attributes;
}

function checkReaders(readers: readonly unknown[], param: string): void {
  checkLength(param, readers.length, limits.file_readers_max);
  for (const [index, reader] of readers.entries()) {
    const path = `${param}[${index}]`;
    if (typeof reader !== "string")
      throw invalidArgument(path, `Invalid type for '${path}': expected a string.`, "INVALID_TYPE");
    checkUnicode(reader, path);
    checkText(reader, path, limits.attribute_value_chars_max);
  }
}

function checkValue(value: unknown, param: string): void {
  if (typeof value === "boolean") return;
  if (typeof value === "number") {
    if (Number.isFinite(value)) return;
    throw invalidArgument(param, `Invalid '${param}': expected a finite number.`);
  }
  if (typeof value !== "string") {
    const message = `Invalid type for '${param}': expected a string, a number or a boolean.`;
    throw invalidArgument(param, message, "INVALID_TYPE");
  }
  checkUnicode(value, param);
  checkText(value, param, limits.attribute_value_chars_max);
}

function checkUnicode(text: string, param: string): void {
  if (text.isWellFormed()) return;
  throw invalidArgument(param, `Invalid '${param}': the text has a lone surrogate and is not valid Unicode.`);
}
