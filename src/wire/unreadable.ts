import { STATUS_CODES, type ServerResponse } from "node:http";
import { constants, type ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from "fastify";
import { httpError, type HttpError } from "./error.ts";
import { requestId } from "./request-id.ts";
import { LINGER_MS } from "./rest/rest.ts";

/**
 * Handles a "clientError", that is, bytes that Node's HTTP/1.1 parser rejects before there is a request:
 * answers 400, 408 or 431 with OpenAI's error body and closes the connection.
 */
export function refuseUnreadable(error: NodeJS.ErrnoException, socket: Socket, log: FastifyBaseLogger): void {
  // The connection was answered already: the parser reports another error for the bytes that follow.
  if (socket.writableEnded) return;
  const refusal = toRefusal(error);
  // Like Node's default "clientError" handler: if a response is already being sent, close the socket, since
  // an error response written now would be read as part of its body.
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
  // Linger: if the socket is closed while the client still sends, TCP answers with RST, and the client may
  // lose the response.
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
}

/** Ends a request whose body arrives too slowly: HTTP/1.1 with 408, HTTP/2 by a reset of the stream. */
export function endSlow(
  request: FastifyRequest["raw"],
  response: FastifyReply["raw"],
  log: FastifyBaseLogger,
): void {
  if ("stream" in request) {
    (request.stream as ServerHttp2Stream).close(constants.NGHTTP2_CANCEL);
  } else if (!response.writableEnded) {
    const error = Object.assign(new Error("The body arrived too slowly."), {
      code: "ERR_HTTP_REQUEST_TIMEOUT",
    });
    refuseUnreadable(error, request.socket, log);
  }
}

/**
 * Maps a parser error to a response; undefined when the connection is broken and nobody can read a response.
 */
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
