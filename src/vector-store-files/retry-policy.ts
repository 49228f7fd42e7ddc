import { Code, ConnectError } from "@connectrpc/connect";
import type { AttachmentErrorCode } from "./rows.ts";
import type { Claim } from "./claims.ts";
import { DocumentError } from "../documents/error.ts";
import { describeError } from "../errors.ts";
import { isUniqueViolation, toServiceError } from "../postgres/errors.ts";

/** Attempts per file that may end in a crash of the reader process, a slow publish or an internal error. */
export const ATTEMPTS_MAX = 5;

/**
 * How long a file is retried while a provider or the database is unavailable, but at least `RETRIES_MIN`
 * times.
 */
const WAIT_MAX_SECONDS = 86_400;
const RETRIES_MIN = 10;

const PAUSE_MIN_MS = 1_000;
const PAUSE_MAX_MS = 60_000;

/** The decision on a file whose processing ended with an error. */
export type RetryDecision =
  | { kind: "failed"; code: AttachmentErrorCode; message: string }
  /**
   * Release the claim, with these counts, and retry after `delayMs`; `isFault`: a fault of the service, to be
   * logged.
   */
  | { kind: "again"; claim: Claim; delayMs: number; isFault: boolean };

/**
 * Publishing a large file's chunks hit the statement timeout. A retry repeats all the work and will probably
 * time out again, so this error counts towards ATTEMPTS_MAX.
 */
export class SlowPublishError extends Error {
  override name = "SlowPublishError";
}

/** Codes of transient errors of a provider or the database; they do not count as attempts of the file. */
const PASSING: readonly Code[] = [Code.Unavailable, Code.ResourceExhausted, Code.DeadlineExceeded];

/**
 * Decides whether a file is retried or fails, by the error its processing ended with and its number of
 * attempts.
 */
export function decideRetry(thrown: unknown, claim: Claim): RetryDecision {
  if (isUniqueViolation(thrown))
    return failed("server_error", "The store already has an embedding with the id of a chunk of this file.");
  const error = toServiceError(thrown);
  if (error instanceof DocumentError) {
    const isFinal = error.code !== "server_error" || claim.attempts >= ATTEMPTS_MAX;
    return isFinal ? failed(error.code, error.message) : again(claim, claim.attempts, false);
  }
  if (!(error instanceof ConnectError) || error.code === Code.Internal) {
    if (claim.attempts < ATTEMPTS_MAX) return again(claim, claim.attempts, true);
    const message =
      error instanceof SlowPublishError ? error.message : "The service failed to process the file.";
    return failed("server_error", message);
  }
  const described = describeError(error);
  const isFinal = described?.reason === "INSUFFICIENT_QUOTA" && described.retryAfterMs === null;
  const { attempts, retries } = claim;
  const isOver = claim.waited_seconds >= WAIT_MAX_SECONDS && retries >= RETRIES_MIN;
  if (!PASSING.includes(error.code) || isOver || isFinal) return failed("server_error", error.rawMessage);
  const proposedMs = described?.retryAfterMs ?? 0;
  return again({ ...claim, attempts: attempts - 1, retries: retries + 1 }, retries + 1, false, proposedMs);
}

function failed(code: AttachmentErrorCode, message: string): RetryDecision {
  return { kind: "failed", code, message };
}

/** Exponential backoff of 1, 2, 4, … up to 60 seconds, or longer if the provider's Retry-After says so. */
function again(claim: Claim, times: number, isFault: boolean, proposedMs = 0): RetryDecision {
  const backoffMs = Math.min(PAUSE_MIN_MS * 2 ** (times - 1), PAUSE_MAX_MS);
  return { kind: "again", claim, delayMs: Math.ceil(Math.max(backoffMs, proposedMs)), isFault };
}
