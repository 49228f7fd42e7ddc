import type { Outcome } from "./send.ts";

/** Codes that no request may cause, as numbers of gRPC and words of Connect: unknown, internal, unavailable, data loss. */
const FAULTS = new Set(["2", "13", "14", "15", "unknown", "internal", "unavailable", "data_loss"]);

/** Not implemented, and HTTP Version Not Supported, which broken request lines get. */
const ANSWERS = new Set([501, 505]);

/** What is wrong with the answer; undefined: it is right. */
export function findFault(outcome: Outcome): string | undefined {
  if (outcome.problem !== undefined) return outcome.problem;
  if (outcome.code !== undefined && FAULTS.has(outcome.code)) return `code ${outcome.code}`;
  // Gateway Timeout: the deadline that the request itself sets has passed.
  if (outcome.status === 504 && outcome.hasDeadline === true) return undefined;
  if (outcome.status >= 500 && !ANSWERS.has(outcome.status)) return `status ${outcome.status}`;
  return undefined;
}

/** Whether the service did what it was asked to do. */
export function isSuccess({ status, code }: Outcome): boolean {
  return status >= 200 && status < 300 && (code === undefined || code === "0");
}
