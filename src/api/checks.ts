import { invalidArgument } from "../errors.ts";
import { isStorable } from "../postgres/text.ts";

/**
 * Checks a short text of the field `param`: at most `charsMax` characters, counted in UTF-16 units as JavaScript and
 * OpenAI count, and no NUL. Throws INVALID_ARGUMENT, in OpenAI's words.
 */
export function checkText(text: string, param: string, charsMax: number): void {
  if (text.length > charsMax) {
    const message = `Invalid '${param}': string too long. Expected a string with maximum length ${charsMax}, but got a string with length ${text.length} instead.`;
    throw invalidArgument(param, message, "STRING_ABOVE_MAX_LENGTH");
  }
  checkStorable(text, param);
}

/** Refuses a text of the field `param` that Postgres cannot hold, with INVALID_ARGUMENT. */
export function checkStorable(text: string, param: string): void {
  if (!isStorable(text))
    throw invalidArgument(param, `Invalid '${param}': Postgres text cannot hold NUL (U+0000).`);
}

/** Refuses a list of the field `param` that has more than `max` items, with INVALID_ARGUMENT, in OpenAI's words. */
export function checkLength(param: string, length: number, max: number): void {
  if (length <= max) return;
  const message = `Invalid '${param}': array too long. Expected an array with maximum length ${max}, but got an array with length ${length} instead.`;
  throw invalidArgument(param, message, "ARRAY_ABOVE_MAX_LENGTH");
}

/** Refuses an integer of the field `param` outside `min` to `max`, with INVALID_ARGUMENT, in OpenAI's words. */
export function checkRange(param: string, value: number, min: number, max: number): void {
  if (value < min) {
    const message = `Invalid '${param}': integer below minimum value. Expected a value >= ${min}, but got ${value} instead.`;
    throw invalidArgument(param, message, "INTEGER_BELOW_MIN_VALUE");
  }
  if (value > max) {
    const message = `Invalid '${param}': integer above maximum value. Expected a value <= ${max}, but got ${value} instead.`;
    throw invalidArgument(param, message, "INTEGER_ABOVE_MAX_VALUE");
  }
}
