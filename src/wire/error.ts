import { Code, ConnectError } from "@connectrpc/connect";
import type { FastifyReply } from "fastify";
import { cancelled, deadlineExceeded, describeError, internal, type Reason } from "../errors.ts";

/** The JSON body of an error, in OpenAI's format. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

/** An HTTP error response. */
export interface HttpError {
  status: number;
  headers: Record<string, string>;
  body: ErrorBody;
}

/** Reasons for which OpenAI sends `code: null`, so that its clients match on the message. */
const WITHOUT_CODE: ReadonlySet<Reason> = new Set(["NOT_FOUND", "INTERNAL"]);

/**
 * Converts any thrown value to a ConnectError without internal details. Errors from `errors.ts` and from
 * Connect are kept; an AbortError becomes CANCELLED, a TimeoutError DEADLINE_EXCEEDED; everything else
 * becomes INTERNAL with a fixed message and the original error as `cause`, for the log only.
 */
export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) {
    // Connect wraps unknown errors as UNKNOWN or INTERNAL, and their messages may contain internal details.
    return error.code === Code.Unknown || error.code === Code.Internal ? keepOurs(error) : error;
  }
  if (error instanceof Error && error.name === "AbortError") return cancelled(error);
  if (error instanceof Error && error.name === "TimeoutError")
    return deadlineExceeded("The call exceeded its deadline.", error);
  return internal(error);
}

/**
 * Maps an error to HTTP: the status, OpenAI's error body, and the headers that say whether and when to retry.
 */
export function toHttpError(error: ConnectError): HttpError {
  const details = describeError(error);
  const reason = details?.reason;
  const status = reason === "REQUEST_TOO_LARGE" ? 413 : statusOf(error.code);
  const failure = httpError(status, error.rawMessage, {
    param: details?.param ?? null,
    code: reason === undefined || WITHOUT_CODE.has(reason) ? null : reason.toLowerCase(),
    retryAfterMs: details?.retryAfterMs ?? null,
  });
  // OpenAI's type of this error is its code.
  if (reason === "INSUFFICIENT_QUOTA") failure.body.error.type = "insufficient_quota";
  return { ...failure, headers: { ...Object.fromEntries(error.metadata), ...failure.headers } };
}

/**
 * Builds an HTTP error. Without `retryAfterMs` the header `x-should-retry: false` tells clients not to retry.
 */
export function httpError(
  status: number,
  message: string,
  options: { param?: string | null; code?: string | null; retryAfterMs?: number | null } = {},
): HttpError {
  const { param = null, code = null, retryAfterMs = null } = options;
  const headers: Record<string, string> =
    retryAfterMs === null
      ? { "x-should-retry": "false" }
      : {
          "retry-after": String(Math.ceil(retryAfterMs / 1000)),
          "retry-after-ms": String(Math.ceil(retryAfterMs)),
        };
  if (status === 401) headers["www-authenticate"] = "Bearer";
  return { status, headers, body: { error: { message, type: typeOf(status), param, code } } };
}

/** 415 for a body without a content type or with another one than `expected`. */
export function unsupportedType(expected: string): HttpError {
  const message = `Unsupported content type: send the body as ${expected}.`;
  return httpError(415, message, { code: "invalid_request" });
}

declare module "fastify" {
  interface FastifyContextConfig {
    /** Makes the body of the route's errors; default: OpenAI's format. */
    errorBody?: (error: HttpError, request: FastifyRequest) => unknown;
    /** The status of the route's errors where it is another than the error's own. */
    errorStatus?: (error: HttpError) => number;
    /** Makes the header `www-authenticate` of the route's 401; default: `Bearer`. */
    challenge?: (request: FastifyRequest) => string;
  }
}

/** Sends an HTTP error as the reply of a Fastify route, in the route's own format where it has one. */
export async function sendError(reply: FastifyReply, error: HttpError): Promise<FastifyReply> {
  const { errorBody, errorStatus, challenge } = reply.request.routeOptions.config;
  if (error.status === 401 && challenge !== undefined)
    error.headers["www-authenticate"] = challenge(reply.request);
  return reply
    .code(errorStatus === undefined ? error.status : errorStatus(error))
    .headers(error.headers)
    .type("application/json; charset=utf-8")
    .send(errorBody === undefined ? error.body : errorBody(error, reply.request));
}

function keepOurs(error: ConnectError): ConnectError {
  return describeError(error) === undefined ? internal(error.cause ?? error) : error;
}

function typeOf(status: number): string {
  if (status === 401) return "authentication_error";
  if (status === 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

function statusOf(code: Code): number {
  switch (code) {
    case Code.InvalidArgument:
    case Code.FailedPrecondition:
      return 400;
    case Code.OutOfRange:
      return 416;
    case Code.Unauthenticated:
      return 401;
    case Code.PermissionDenied:
      return 403;
    case Code.NotFound:
      return 404;
    case Code.AlreadyExists:
    case Code.Aborted:
      return 409;
    case Code.ResourceExhausted:
      return 429;
    case Code.Canceled:
      // nginx's "client closed request": the client is gone, so the status shows up in logs only.
      return 499;
    case Code.Unimplemented:
      return 501;
    case Code.Unavailable:
      return 503;
    case Code.DeadlineExceeded:
      return 504;
    case Code.Unknown:
    case Code.Internal:
    case Code.DataLoss:
      return 500;
  }
}
