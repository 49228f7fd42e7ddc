import { Code, ConnectError } from "@connectrpc/connect";
import type { AttachmentErrorCode } from "./rows.ts";
import type { Claim } from "./claims.ts";
import { DocumentError } from "../documents/error.ts";
import { describeError } from "../errors.ts";
import { isUniqueViolation, toServiceError } from "../postgres/errors.ts";

/** How often a file may bring down what processes it, take too long to be published, or meet a fault of the service. */
export const ATTEMPTS_MAX = 5;

/** How long a file waits for a provider or a database that is away; in a long queue it is tried some times nevertheless. */
const WAIT_MAX_SECONDS = 86_400;
const RETRIES_MIN = 10;

const PAUSE_MIN_MS = 1_000;
const PAUSE_MAX_MS = 60_000;

/** What becomes of a file whose processing ended with an error. */
export type Verdict =
  | { kind: "failed"; code: AttachmentErrorCode; message: string }
  /** It is given back, with these counts, to be taken again after the pause. */
  | { kind: "again"; claim: Claim; delayMs: number; isFault: boolean };

/** The chunks of a large file could not be made rows in the time allowed. As many will hardly be when all is done again. */
export class SlowPublishError extends Error {
  override name = "SlowPublishError";
}

/** Failures of something else, that pass: the file has no part in them. */
const PASSING: readonly Code[] = [Code.Unavailable, Code.ResourceExhausted, Code.DeadlineExceeded];

/** Decides what becomes of a file, by the error its processing ended with and by how often it was tried. */
export function judge(thrown: unknown, claim: Claim): Verdict {
  if (isUniqueViolation(thrown))
    return failed("server_error", "The vector store has an embedding with the id of a chunk of this file.");
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
  const { attempts, retries } = claim;
  const isOver = claim.waited_seconds >= WAIT_MAX_SECONDS && retries >= RETRIES_MIN;
  if (!PASSING.includes(error.code) || isOver) return failed("server_error", error.rawMessage);
  const proposedMs = describeError(error)?.retryAfterMs ?? 0;
  return again({ ...claim, attempts: attempts - 1, retries: retries + 1 }, retries + 1, false, proposedMs);
}

function failed(code: AttachmentErrorCode, message: string): Verdict {
  return { kind: "failed", code, message };
}

/** Pauses of 1, 2, 4, ... up to 60 seconds, or longer where the provider asks for it. */
function again(claim: Claim, times: number, isFault: boolean, proposedMs = 0): Verdict {
  const backoffMs = Math.min(PAUSE_MIN_MS * 2 ** (times - 1), PAUSE_MAX_MS);
  return { kind: "again", claim, delayMs: Math.ceil(Math.max(backoffMs, proposedMs)), isFault };
}
