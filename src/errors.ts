import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.ts";

/** Every reason an error can carry, with what it means. README's table is held to this one by a test. */
export const REASONS = {
  MISSING_REQUIRED_PARAMETER: "A field that is required is absent or empty.",
  UNKNOWN_PARAMETER: "The request has a field that does not exist.",
  INVALID_TYPE: "A field has the wrong JSON type.",
  INVALID_VALUE: "A field has a value that is not allowed.",
  INTEGER_BELOW_MIN_VALUE: "A number is too small.",
  INTEGER_ABOVE_MAX_VALUE: "A number is too large.",
  STRING_ABOVE_MAX_LENGTH: "A text is too long.",
  ARRAY_ABOVE_MAX_LENGTH: "A list has too many items.",
  OBJECT_ABOVE_MAX_PROPERTIES: "An object has too many keys.",
  INVALID_JSON: "The body is not JSON.",
  INVALID_REQUEST: "The request cannot be read: wrong content type, encoding or framing.",
  DIMENSION_MISMATCH: "A vector's length differs from its store's.",
  EMBEDDING_MODEL_MISMATCH: "The store's vectors were made by another model than the one configured.",
  VECTOR_STORE_EXPIRED: "The store has expired by disuse.",
  INDEX_MISSING: "The store has no vector index.",
  INGEST_CONFLICT:
    "The ingest was opened with other settings, moved on by another stream, finished or aborted.",
  INGEST_DRAINING: "The service is about to end; resume the ingest.",
  INVALID_API_KEY: "The bearer key is missing or wrong.",
  NOT_FOUND: "There is no such resource or route.",
  MODEL_NOT_FOUND: "The service is set to another model.",
  ALREADY_EXISTS: "The id is taken.",
  IDEMPOTENCY_CONFLICT:
    "The Idempotency-Key was used for another request, or what that one stored has changed.",
  REQUEST_TOO_LARGE: "The request is larger than the service accepts.",
  RATE_LIMIT_EXCEEDED: "Too much at once; try again after the time given.",
  EMBEDDING_PROVIDER_REFUSED: "The embedding provider refused the texts.",
  EMBEDDING_PROVIDER_UNAVAILABLE: "The embedding provider cannot be reached or misbehaves.",
  RANGE_NOT_SATISFIABLE: "The bytes asked for are not within the file.",
  FILE_STORAGE_UNAVAILABLE: "The bucket that holds the files cannot be reached or refuses.",
  DATABASE_UNAVAILABLE: "The database cannot be reached, or takes no writes at the moment.",
  SCHEMA_MISSING: "The database lacks the tables or the extension, and the role may not create them.",
  DEADLINE_EXCEEDED: "The call took longer than allowed.",
  CANCELLED: "The caller gave up.",
  UNIMPLEMENTED: "This version does not offer it.",
  INTERNAL: "A fault of the service; its log has the details under the request id.",
} as const;

/** The cause of an error, in a form a program can act on. */
export type Reason = keyof typeof REASONS;

interface ErrorOptions {
  /** The request field at fault. */
  param?: string;
  /** Wait this long before the same call is tried again. Without it the failure is final. */
  retryAfterMs?: number;
  /** What caused it; logged, never sent. */
  cause?: unknown;
}

/** The one currency of failure: a code, a reason, perhaps a field, and a message fit for the caller. */
function failure(code: Code, reason: Reason, message: string, options: ErrorOptions = {}): ConnectError {
  const { param, retryAfterMs, cause } = options;
  // What others said may have lone surrogates, which no header can hold.
  const error = new ConnectError(message.toWellFormed(), code, undefined, undefined, cause);
  const metadata: Record<string, string> = param === undefined ? {} : { param };
  error.details.push({ desc: ErrorInfoSchema, value: { reason, domain: "pgquiver", metadata } });
  if (code === Code.InvalidArgument && param !== undefined) {
    error.details.push({
      desc: BadRequestSchema,
      value: { fieldViolations: [{ field: param, description: message }] },
    });
  }
  if (retryAfterMs !== undefined) {
    const seconds = Math.floor(retryAfterMs / 1000);
    error.details.push({
      desc: RetryInfoSchema,
      value: {
        retryDelay: { seconds: BigInt(seconds), nanos: Math.round((retryAfterMs - seconds * 1000) * 1e6) },
      },
    });
  }
  return error;
}

/** A field is wrong. `param` is its path as the caller wrote it, such as `embeddings[3].content`. */
export function invalidArgument(
  param: string | undefined,
  message: string,
  reason: Reason = "INVALID_VALUE",
): ConnectError {
  return failure(Code.InvalidArgument, reason, message, param === undefined ? {} : { param });
}

/** A required field is absent or empty; the wording is OpenAI's. */
export function missingParameter(param: string): ConnectError {
  return invalidArgument(param, `Missing required parameter: '${param}'.`, "MISSING_REQUIRED_PARAMETER");
}

/** There is no such store; clients match OpenAI's wording. */
export function vectorStoreNotFound(id: string): ConnectError {
  return notFound(`No vector store found with id '${id}'.`, "vector_store_id");
}

/** The store has expired; clients match OpenAI's wording. */
export function vectorStoreExpired(id: string): ConnectError {
  return failedPrecondition("VECTOR_STORE_EXPIRED", `Vector store '${id}' has expired.`, "vector_store_id");
}

/** There is no such file; clients match OpenAI's wording. */
export function fileNotFound(id: string, param = "file_id"): ConnectError {
  return notFound(`No such File object: ${id}`, param);
}

/** The bytes asked for are not within the file. */
export function outOfRange(message: string, param: string): ConnectError {
  return failure(Code.OutOfRange, "RANGE_NOT_SATISFIABLE", message, { param });
}

/** There is no such resource. */
export function notFound(message: string, param?: string): ConnectError {
  return failure(Code.NotFound, "NOT_FOUND", message, param === undefined ? {} : { param });
}

/** The service is set to another model; the wording and the code are OpenAI's. */
export function modelNotFound(model: string): ConnectError {
  const message = `The model '${model}' does not exist or you do not have access to it.`;
  return failure(Code.NotFound, "MODEL_NOT_FOUND", message, { param: "model" });
}

/** The id is taken. Final: the same call will fail again. */
export function alreadyExists(message: string, param: string): ConnectError {
  return failure(Code.AlreadyExists, "ALREADY_EXISTS", message, { param });
}

/** A key that stands for another request. Final. */
export function idempotencyConflict(): ConnectError {
  return failure(
    Code.AlreadyExists,
    "IDEMPOTENCY_CONFLICT",
    "This Idempotency-Key was used for another request, or what that one stored has changed: use a new key for each request.",
    { param: "Idempotency-Key" },
  );
}

/** The request is well formed, but the state of the service or the store forbids it. */
export function failedPrecondition(reason: Reason, message: string, param?: string): ConnectError {
  return failure(Code.FailedPrecondition, reason, message, param === undefined ? {} : { param });
}

/** Something else was done meanwhile: the caller must look where things stand, and may then go on. */
export function aborted(reason: Reason, message: string, param: string): ConnectError {
  return failure(Code.Aborted, reason, message, { param, retryAfterMs: 1000 });
}

/** Another change came in between each time; the same call may succeed. */
export function conflict(cause?: unknown): ConnectError {
  return unavailable("DATABASE_UNAVAILABLE", "Another change came in between; try again.", {
    retryAfterMs: 1000,
    cause,
  });
}

/** The bearer key is missing or wrong. */
export function unauthenticated(message: string): ConnectError {
  return failure(Code.Unauthenticated, "INVALID_API_KEY", message);
}

/** Too large: final. */
export function tooLarge(message: string, param?: string): ConnectError {
  return failure(Code.ResourceExhausted, "REQUEST_TOO_LARGE", message, param === undefined ? {} : { param });
}

/** Too much at once: may be tried again after `retryAfterMs`. */
export function rateLimited(message: string, retryAfterMs: number): ConnectError {
  return failure(Code.ResourceExhausted, "RATE_LIMIT_EXCEEDED", message, { retryAfterMs });
}

/** Something this service depends on is away. Give `retryAfterMs` where trying again can help. */
export function unavailable(reason: Reason, message: string, options: ErrorOptions = {}): ConnectError {
  return failure(Code.Unavailable, reason, message, options);
}

/** The call took longer than allowed. */
export function deadlineExceeded(message: string, cause?: unknown): ConnectError {
  return failure(Code.DeadlineExceeded, "DEADLINE_EXCEEDED", message, { cause });
}

/** The caller gave up. */
export function cancelled(cause?: unknown): ConnectError {
  return failure(Code.Canceled, "CANCELLED", "The call was cancelled.", { cause });
}

/** This version does not offer it. */
export function unimplemented(message: string, param?: string): ConnectError {
  return failure(Code.Unimplemented, "UNIMPLEMENTED", message, param === undefined ? {} : { param });
}

/** A fault of ours. The message says nothing of the inside; `cause` is for the log. */
export function internal(cause: unknown): ConnectError {
  return failure(Code.Internal, "INTERNAL", "The service failed to process the request.", { cause });
}

/** The message cannot be read. INTERNAL is what the documentation of gRPC gives for it. */
export function unreadable(message: string): ConnectError {
  return failure(Code.Internal, "INVALID_REQUEST", message);
}

/** What the details of an error say; undefined where it is not one of ours. */
export function describeError(
  error: ConnectError,
): { reason: Reason; param: string | null; retryAfterMs: number | null } | undefined {
  const info = error.findDetails(ErrorInfoSchema).find((detail) => detail.domain === "pgquiver");
  if (info === undefined) return undefined;
  const delay = error.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return {
    reason: info.reason as Reason,
    param: info.metadata["param"] ?? null,
    retryAfterMs: delay === undefined ? null : Number(delay.seconds) * 1000 + delay.nanos / 1e6,
  };
}

/** The reason of an error; undefined where it is not one of ours. */
export function reasonOf(error: unknown): Reason | undefined {
  return error instanceof ConnectError ? describeError(error)?.reason : undefined;
}

/** The message of anything thrown. A host with several addresses fails with one error for each and no message of its own. */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(messageOf).join(", ");
  return error instanceof Error ? error.message : String(error);
}
