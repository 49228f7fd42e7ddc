import { Code, ConnectError } from "@connectrpc/connect";
import {
  BadRequestSchema,
  ErrorInfoSchema,
  QuotaFailureSchema,
  RetryInfoSchema,
} from "../gen/google/rpc/error_details_pb.ts";
import { limits } from "./limits.ts";
import type { Reason } from "./reasons.ts";
import { localId } from "./store-id.ts";

export type { Reason } from "./reasons.ts";

interface ErrorOptions {
  /** The invalid request field. */
  param?: string;
  /** Milliseconds after which the client may retry the same call. Absent: a retry fails again. */
  retryAfterMs?: number;
  /** The underlying error: logged, never sent to the client. */
  cause?: unknown;
  /** The limit or quota that is reached, by its name in the API, and the project or key that has it. */
  limit?: { name: string; subject: string };
}

/**
 * Creates the one kind of error that callers see: a ConnectError with google.rpc details (ErrorInfo with the
 * reason, BadRequest with the field, RetryInfo with the delay). The message must not reveal internals.
 */
function failure(code: Code, reason: Reason, text: string, options: ErrorOptions = {}): ConnectError {
  const { retryAfterMs, cause, limit } = options;
  // The request's texts in a message, such as an unknown id, can have any length. Trailers that are too long end
  // gRPC's connection, with the calls of everybody who shares it.
  const message = shorten(text, limits.error_message_bytes_max);
  const param =
    options.param === undefined ? undefined : shorten(options.param, limits.error_param_bytes_max);
  const error = new ConnectError(message, code, undefined, undefined, cause);
  const metadata: Record<string, string> = {
    ...(param !== undefined && { param }),
    ...(limit !== undefined && { limit: limit.name }),
  };
  error.details.push({ desc: ErrorInfoSchema, value: { reason, domain: "pgquiver", metadata } });
  if (code === Code.InvalidArgument && param !== undefined) {
    error.details.push({
      desc: BadRequestSchema,
      value: { fieldViolations: [{ field: param, description: message }] },
    });
  }
  if (limit !== undefined) {
    const violation = { subject: limit.subject, description: message };
    error.details.push({ desc: QuotaFailureSchema, value: { violations: [violation] } });
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

/**
 * The beginning of a text, with "…" where it was cut. Text of other parties (request, embedding provider) may contain
 * lone surrogates, which an HTTP header cannot encode: they are replaced.
 */
function shorten(text: string, bytesMax: number): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= bytesMax) return text.toWellFormed();
  // As a stream, the decoder leaves out a character that was cut.
  return `${new TextDecoder().decode(bytes.subarray(0, bytesMax - "…".length * 3), { stream: true })}…`;
}

/**
 * INVALID_ARGUMENT: a field is invalid. `param`: its path in the request's spelling, such as
 * `embeddings[3].content`.
 */
export function invalidArgument(
  param: string | undefined,
  message: string,
  reason: Reason = "INVALID_VALUE",
): ConnectError {
  return failure(Code.InvalidArgument, reason, message, param === undefined ? {} : { param });
}

/** INVALID_ARGUMENT: a required field is absent or empty. OpenAI's wording. */
export function missingParameter(param: string): ConnectError {
  return invalidArgument(param, `Missing required parameter: '${param}'.`, "MISSING_REQUIRED_PARAMETER");
}

/** NOT_FOUND: the store, given by its stored id, does not exist. OpenAI's wording, which clients match. */
export function vectorStoreNotFound(id: string): ConnectError {
  return notFound(`No vector store found with id '${localId(id)}'.`, "vector_store_id");
}

/** FAILED_PRECONDITION: the store, given by its stored id, has expired. OpenAI's wording, which clients match. */
export function vectorStoreExpired(id: string): ConnectError {
  return failedPrecondition(
    "VECTOR_STORE_EXPIRED",
    `Vector store '${localId(id)}' has expired.`,
    "vector_store_id",
  );
}

/** NOT_FOUND: the store, given by its stored id, has no such embedding. */
export function embeddingNotFound(storeId: string, id: string): ConnectError {
  const message = `No embedding found with id '${id}' in vector store '${localId(storeId)}'.`;
  return notFound(message, "embedding_id");
}

/** FAILED_PRECONDITION: the embedding is a chunk of a file. */
export function embeddingOfFile(id: string, fileId: string): ConnectError {
  const message = `Embedding '${id}' is a chunk of the file '${fileId}': change the file's attributes, or attach another file.`;
  return failedPrecondition("EMBEDDING_OF_FILE", message, "embedding_id");
}

/** NOT_FOUND: the file does not exist. OpenAI's wording, which clients match. */
export function fileNotFound(id: string, param = "file_id"): ConnectError {
  return notFound(`No such File object: ${id}`, param);
}

/** NOT_FOUND: the upload does not exist. */
export function uploadNotFound(id: string): ConnectError {
  return notFound(`No such Upload object: ${id}`, "upload_id");
}

/** OUT_OF_RANGE: the requested byte range lies outside of the file. */
export function outOfRange(message: string, param: string): ConnectError {
  return failure(Code.OutOfRange, "RANGE_NOT_SATISFIABLE", message, { param });
}

/** NOT_FOUND: the resource does not exist. */
export function notFound(message: string, param?: string): ConnectError {
  return failure(Code.NotFound, "NOT_FOUND", message, param === undefined ? {} : { param });
}

/** NOT_FOUND: the service is configured for another model. OpenAI's wording and code. */
export function modelNotFound(model: string): ConnectError {
  const message = `The model '${model}' does not exist or you do not have access to it.`;
  return failure(Code.NotFound, "MODEL_NOT_FOUND", message, { param: "model" });
}

/** ALREADY_EXISTS: the id is taken. Final: a retry fails again. */
export function alreadyExists(message: string, param: string): ConnectError {
  return failure(Code.AlreadyExists, "ALREADY_EXISTS", message, { param });
}

/** ALREADY_EXISTS: the Idempotency-Key belongs to a different request. Final: a retry fails again. */
export function idempotencyConflict(): ConnectError {
  return failure(
    Code.AlreadyExists,
    "IDEMPOTENCY_CONFLICT",
    "This Idempotency-Key was used for a different request, or the rows stored by its first request have changed: use a new key for each request.",
    { param: "Idempotency-Key" },
  );
}

/**
 * FAILED_PRECONDITION: the request is valid, but the state of the service or of the store does not allow it.
 */
export function failedPrecondition(reason: Reason, message: string, param?: string): ConnectError {
  return failure(Code.FailedPrecondition, reason, message, param === undefined ? {} : { param });
}

/**
 * ABORTED: a concurrent operation changed the state. The caller must read the state again (GetIngest) before
 * retrying.
 */
export function aborted(reason: Reason, message: string, param: string): ConnectError {
  return failure(Code.Aborted, reason, message, { param, retryAfterMs: 1000 });
}

/**
 * UNAVAILABLE: a concurrent change interfered (serialization failure, deadlock, retries used up). The same
 * call may be retried.
 */
export function conflict(cause?: unknown): ConnectError {
  return unavailable("DATABASE_UNAVAILABLE", "A concurrent change interfered; try again.", {
    retryAfterMs: 1000,
    cause,
  });
}

/** UNAUTHENTICATED: the bearer key or token is missing, wrong or expired. */
export function unauthenticated(message: string): ConnectError {
  return failure(Code.Unauthenticated, "INVALID_API_KEY", message);
}

/** PERMISSION_DENIED: the key lacks a scope. OpenAI's wording. */
export function missingScope(scope: string): ConnectError {
  const message = `You have insufficient permissions for this operation. Missing scopes: ${scope}.`;
  return failure(Code.PermissionDenied, "MISSING_SCOPE", message);
}

/** PERMISSION_DENIED: a key would be given more rights than the caller's own key has. */
export function exceedsKey(): ConnectError {
  const message =
    "A key cannot be given scopes or stores that your own key does not have, nor higher limits than your own key has.";
  return failure(Code.PermissionDenied, "MISSING_SCOPE", message);
}

/** PERMISSION_DENIED: the key may only use stores of its list, and the new store is not one of them. */
export function storeNotListed(): ConnectError {
  const message =
    "Your key is restricted to some stores, and can create only a store with the id of one of them.";
  return failure(Code.PermissionDenied, "MISSING_SCOPE", message);
}

/** PERMISSION_DENIED: the key may only use stores of its list, and the call is about all of a project. */
export function storesListed(): ConnectError {
  const message = "Your key is restricted to some stores, and cannot read a whole project.";
  return failure(Code.PermissionDenied, "MISSING_SCOPE", message);
}

/** PERMISSION_DENIED: only keys of the default project manage projects. */
export function otherProject(): ConnectError {
  const message =
    "Only keys of the project 'default' can create, archive and erase projects, and change their limits and quotas.";
  return failure(Code.PermissionDenied, "MISSING_SCOPE", message);
}

/** PERMISSION_DENIED: a project that bound another's certificate would get that one's calls. */
export function othersCertificate(): ConnectError {
  const message = "Only keys of the project 'default' can give rights to the holders of certificates.";
  return failure(Code.PermissionDenied, "MISSING_SCOPE", message);
}

/** PERMISSION_DENIED: a caller who may read some of the store, given by its stored id, wants more than to read. */
export function readersRestricted(id: string): ConnectError {
  const message = `Vector store '${localId(id)}' restricts its readers: callers with a token can search it and read what names them, no more. Use a key.`;
  return failure(Code.PermissionDenied, "MISSING_SCOPE", message);
}

/** UNAUTHENTICATED: the header OpenAI-Project names another project than the key's. OpenAI's wording. */
export function mismatchedProject(): ConnectError {
  const message = "OpenAI-Project header should match project for API key";
  return failure(Code.Unauthenticated, "MISMATCHED_PROJECT", message);
}

/** PERMISSION_DENIED: a web page of another site may have made the request. */
export function permissionDenied(message: string): ConnectError {
  return failure(Code.PermissionDenied, "FOREIGN_ORIGIN", message);
}

/** RESOURCE_EXHAUSTED: the request exceeds a size limit. Final: a retry fails again. */
export function tooLarge(message: string, param?: string): ConnectError {
  return failure(Code.ResourceExhausted, "REQUEST_TOO_LARGE", message, param === undefined ? {} : { param });
}

/**
 * RESOURCE_EXHAUSTED: too many calls or bytes at the same time. The client may retry after `retryAfterMs`.
 */
export function rateLimited(message: string, retryAfterMs: number): ConnectError {
  return failure(Code.ResourceExhausted, "RATE_LIMIT_EXCEEDED", message, { retryAfterMs });
}

/** The limit or quota that a call is refused for: see `limitOf`. */
interface ReachedLimit {
  /** Its name in the API, such as `max_rows`. */
  limit: string;
  /** The project or key that has it, such as `project:default`. */
  subject: string;
  /** Absent: waiting does not help. */
  retryAfterMs?: number | undefined;
  /** Further headers of the reply. */
  headers?: Record<string, string> | undefined;
}

/** RESOURCE_EXHAUSTED: a project or a key has reached a limit to how much may be done at a time. */
export function limitReached(
  message: string,
  reached: ReachedLimit & { retryAfterMs: number },
): ConnectError {
  return exceeded("RATE_LIMIT_EXCEEDED", message, reached);
}

/** RESOURCE_EXHAUSTED: a project would hold or use more than its quota. */
export function insufficientQuota(message: string, reached: ReachedLimit): ConnectError {
  return exceeded("INSUFFICIENT_QUOTA", message, reached);
}

function exceeded(
  reason: Reason,
  message: string,
  { limit, subject, retryAfterMs, headers = {} }: ReachedLimit,
): ConnectError {
  const error = failure(Code.ResourceExhausted, reason, message, {
    limit: { name: limit, subject },
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  });
  // Over Connect too, which has no other place for it that clients of HTTP know.
  if (retryAfterMs !== undefined) error.metadata.set("retry-after", String(Math.ceil(retryAfterMs / 1000)));
  for (const [name, value] of Object.entries(headers)) error.metadata.set(name, value);
  return error;
}

/** The name of the limit or quota that a call was refused for; undefined for other errors. */
export function limitOf(error: unknown): string | undefined {
  if (!(error instanceof ConnectError)) return undefined;
  return error.findDetails(ErrorInfoSchema).find(({ domain }) => domain === "pgquiver")?.metadata["limit"];
}

/**
 * UNAVAILABLE: a dependency (database, embedding provider, bucket) fails. Pass `retryAfterMs` where a retry
 * can help.
 */
export function unavailable(reason: Reason, message: string, options: ErrorOptions = {}): ConnectError {
  return failure(Code.Unavailable, reason, message, options);
}

/**
 * UNAVAILABLE: a newer version has changed the database's schema so that this process must not write. Another
 * process, of the newer version, can answer a retry.
 */
export function schemaMoved(migration: string, cause: unknown): ConnectError {
  const message = `This process is older than the database's schema (migration ${migration}): restart it with the newer version.`;
  return unavailable("SCHEMA_MOVED", message, { retryAfterMs: 1000, cause });
}

/** DEADLINE_EXCEEDED: the call took longer than allowed. */
export function deadlineExceeded(message: string, cause?: unknown): ConnectError {
  return failure(Code.DeadlineExceeded, "DEADLINE_EXCEEDED", message, { cause });
}

/** CANCELLED: the client cancelled the call or disconnected. */
export function cancelled(cause?: unknown): ConnectError {
  return failure(Code.Canceled, "CANCELLED", "The call was cancelled.", { cause });
}

/** UNIMPLEMENTED: this version does not support the operation or the field. */
export function unimplemented(message: string, param?: string): ConnectError {
  return failure(Code.Unimplemented, "UNIMPLEMENTED", message, param === undefined ? {} : { param });
}

/** INTERNAL: a bug or an unexpected failure. The message reveals nothing; `cause` is logged. */
export function internal(cause: unknown): ConnectError {
  return failure(Code.Internal, "INTERNAL", "The service failed to process the request.", { cause });
}

/**
 * INVALID_ARGUMENT: a request message cannot be decoded. Not INTERNAL, which gRPC's own servers answer: over HTTP
 * that is 500, a fault of the service, which clients try again and operators are woken for.
 */
export function unreadable(message: string): ConnectError {
  return invalidArgument(undefined, message, "INVALID_REQUEST");
}

/** Reads the details of an error made here; undefined for any other error. `retryAfterMs` null: final. */
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

/** Reads the reason of an error made here; undefined for anything else. */
export function reasonOf(error: unknown): Reason | undefined {
  return error instanceof ConnectError ? describeError(error)?.reason : undefined;
}

/**
 * The message of any thrown value. A failed connection to a host with several addresses is an AggregateError
 * without a message: then the messages of its errors are joined.
 */
export function messageOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(messageOf).join(", ");
  return error instanceof Error ? error.message : String(error);
}
