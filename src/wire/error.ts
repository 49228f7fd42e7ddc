import { Code, ConnectError } from "@connectrpc/connect";
import type { FastifyReply } from "fastify";
import { cancelled, deadlineExceeded, describeError, internal, type Reason } from "../errors.ts";

/** OpenAI's error body. */
export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

/** An error as HTTP sends it. */
export interface HttpError {
  status: number;
  headers: Record<string, string>;
  body: ErrorBody;
}

/** Reasons for which OpenAI sends no `code`: its clients match on the message. */
const WITHOUT_CODE: ReadonlySet<Reason> = new Set(["NOT_FOUND", "INTERNAL"]);

/**
 * Makes any thrown value a ConnectError fit for the caller. Errors made in `errors.ts` and by
 * Connect itself pass; the reasons of aborted signals become CANCELLED or DEADLINE_EXCEEDED; all
 * else becomes INTERNAL with the original as its cause, for the log.
 */
export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) {
    // Connect wraps what it does not know, and its message may hold anything.
    return error.code === Code.Unknown || error.code === Code.Internal ? keepOurs(error) : error;
  }
  if (error instanceof Error && error.name === "AbortError") return cancelled(error);
  if (error instanceof Error && error.name === "TimeoutError")
    return deadlineExceeded("The call took too long.", error);
  return internal(error);
}

/** Maps an error to HTTP: status, OpenAI's body, and whether and when to try again. */
export function toHttpError(error: ConnectError): HttpError {
  const details = describeError(error);
  const reason = details?.reason;
  const status = reason === "REQUEST_TOO_LARGE" ? 413 : statusOf(error.code);
  return httpError(status, error.rawMessage, {
    param: details?.param ?? null,
    code: reason === undefined || WITHOUT_CODE.has(reason) ? null : reason.toLowerCase(),
    retryAfterMs: details?.retryAfterMs ?? null,
  });
}

/** Builds an HTTP error. Without `retryAfterMs` clients are told that trying again is useless. */
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

/** The error for a body of another content type than the one that is read, or of none. */
export function unsupportedType(expected: string): HttpError {
  const message = `Unsupported content type: send the body as ${expected}.`;
  return httpError(415, message, { code: "invalid_request" });
}

/** Sends an error as the reply. */
export async function sendError(reply: FastifyReply, error: HttpError): Promise<FastifyReply> {
  return reply
    .code(error.status)
    .headers(error.headers)
    .type("application/json; charset=utf-8")
    .send(error.body);
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
      // Nobody reads it: the caller has gone. The number is nginx's for that case.
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
