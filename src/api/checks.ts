import { invalidArgument } from "../errors.ts";
import { isStorable } from "../postgres/text.ts";

/**
 * Checks a short text of the field `param`: at most `charsMax` UTF-16 code units, as JavaScript and OpenAI
 * count characters, and no NUL. Throws INVALID_ARGUMENT with OpenAI's wording.
 */
export function checkText(text: string, param: string, charsMax: number): void {
  if (text.length > charsMax) {
    const message = `Invalid '${param}': string too long. Expected a string with maximum length ${charsMax}, but got a string with length ${text.length} instead.`;
    throw invalidArgument(param, message, "STRING_ABOVE_MAX_LENGTH");
  }
  checkStorable(text, param);
}

/** Throws INVALID_ARGUMENT when a text of the field `param` contains NUL, which Postgres cannot store. */
export function checkStorable(text: string, param: string): void {
  if (!isStorable(text))
    throw invalidArgument(param, `Invalid '${param}': Postgres text cannot hold NUL (U+0000).`);
}

/**
 * Throws INVALID_ARGUMENT, with OpenAI's wording, when a list of the field `param` has more than `max` items.
 */
export function checkLength(param: string, length: number, max: number): void {
  if (length <= max) return;
  const message = `Invalid '${param}': array too long. Expected an array with maximum length ${max}, but got an array with length ${length} instead.`;
  throw invalidArgument(param, message, "ARRAY_ABOVE_MAX_LENGTH");
}

/**
 * Throws INVALID_ARGUMENT, with OpenAI's wording, when an object of the field `param` has more than `max` keys.
 */
export function checkPairs(param: string, count: number, max: number): void {
  if (count <= max) return;
  const message = `Invalid '${param}': too many properties. Expected at most ${max}, but got ${count} instead.`;
  throw invalidArgument(param, message, "OBJECT_ABOVE_MAX_PROPERTIES");
}

/**
 * Throws INVALID_ARGUMENT, with OpenAI's wording, when an integer of the field `param` is not in `min` to
 * `max`.
 */
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
