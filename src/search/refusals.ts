import { deadlineExceeded, tooLarge } from "../errors.ts";

/** The error for results that exceed a limit in bytes or characters. */
export function tooMuch(max: number, unit: string): Error {
  return tooLarge(
    `The results have more than ${max} ${unit} of text, metadata and vectors: ask for fewer at once.`,
  );
}

/** The error for a search that exceeded SEARCH_TIMEOUT_SECONDS. */
export function tooSlow(timeoutMs: number): Error {
  return deadlineExceeded(
    `The search took longer than ${timeoutMs / 1000} seconds (SEARCH_TIMEOUT_SECONDS).`,
  );
}
