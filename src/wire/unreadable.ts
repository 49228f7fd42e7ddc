import { STATUS_CODES, type ServerResponse } from "node:http";
import type { Socket } from "node:net";
import type { FastifyBaseLogger } from "fastify";
import { httpError, type HttpError } from "./error.ts";
import { requestId } from "./request-id.ts";
import { LINGER_MS } from "./rest/rest.ts";

/** Answers what Node's parser of HTTP/1.1 refuses before there is a request, in OpenAI's form, and ends the connection. */
export function refuseUnreadable(error: NodeJS.ErrnoException, socket: Socket, log: FastifyBaseLogger): void {
  // It is answered already, and this is more of it.
  if (socket.writableEnded) return;
  const refusal = toRefusal(error);
  // As Node itself has it: amid another answer this one would be taken for a part of it.
  const { _httpMessage: answering } = socket as { _httpMessage?: ServerResponse };
  if (refusal === undefined || !socket.writable || answering?.headersSent === true) {
    socket.destroy();
    return;
  }
  const { status } = refusal;
  const id = requestId(undefined);
  log.info({ requestId: id, error: error.message }, "refused");
  const body = JSON.stringify(refusal.body);
  const headers = {
    "content-type": "application/json; charset=utf-8",
    "content-length": Buffer.byteLength(body),
    "x-request-id": id,
    ...refusal.headers,
    connection: "close",
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join("")}\r\n${body}`);
  // Closed at once, the connection would be reset by what is still on its way.
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
}

/** Undefined where the connection broke, and nobody reads an answer. */
function toRefusal({ code = "", message }: NodeJS.ErrnoException): HttpError | undefined {
  const options = { code: "invalid_request" };
  if (code === "ERR_HTTP_REQUEST_TIMEOUT")
    return httpError(408, "The request took too long to arrive.", { ...options, retryAfterMs: 0 });
  if (code === "HPE_HEADER_OVERFLOW")
    return httpError(431, "The headers of the request are too large.", options);
  return code.startsWith("HPE_")
    ? httpError(400, `The request is not HTTP/1.1: ${message}.`, options)
    : undefined;
}
