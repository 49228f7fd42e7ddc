import { randomUUID } from "node:crypto";

/** The caller's id if it is sane, else a new one. */
export function requestId(header: string | string[] | undefined): string {
  return typeof header === "string" && /^[\w.:-]{1,128}$/.test(header) ? header : randomUUID();
}
