import { invalidArgument } from "../errors.ts";

/** Refuses a short text that is too long, or that Postgres cannot hold. Length is in UTF-16 units, as JavaScript and OpenAI count. */
export function checkText(text: string, param: string, charsMax: number): void {
  if (text.length > charsMax) {
    const message = `Invalid '${param}': string too long. Expected a string with maximum length ${charsMax}, but got a string with length ${text.length} instead.`;
    throw invalidArgument(param, message, "STRING_ABOVE_MAX_LENGTH");
  }
  if (text.includes("\0"))
    throw invalidArgument(param, `Invalid '${param}': Postgres text cannot hold NUL (U+0000).`);
}
