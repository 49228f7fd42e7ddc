import { randomUUID } from "node:crypto";

/** The caller's request id, if it has 1 to 128 characters of A-Z a-z 0-9 _ . : -, otherwise a random UUID. */
export function requestId(header: string | string[] | undefined): string {
  return typeof header === "string" && /^[\w.:-]{1,128}$/.test(header) ? header : randomUUID();
}
