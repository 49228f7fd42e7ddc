import { once } from "node:events";
import { request as requestHttp1, type ClientRequest } from "node:http";
import { connect as connectHttp2, constants, type ClientHttp2Stream } from "node:http2";
import type { Writable } from "node:stream";
import { text as readText } from "node:stream/consumers";

/** The response to an upload over HTTP. */
export interface HttpReply {
  status: number;
  headers: Record<string, string>;
  text: string;
}

/** An upload over HTTP in progress. */
export interface HttpUpload {
  /**
   * Sends a piece of the body, and waits for backpressure to end: forever if the server does not read the
   * body.
   */
  readonly write: (piece: string | Uint8Array) => Promise<void>;
  readonly end: () => void;
  /** Cancels the upload: HTTP/1.1: closes the connection; HTTP/2: resets the stream. */
  readonly cancel: () => void;
  reply: Promise<HttpReply>;
  /** Resolves when the HTTP/2 stream or the HTTP/1.1 connection is closed. */
  closed: Promise<void>;
}

/** Starts an upload over HTTP/1.1 or HTTP/2. */
export function startHttpUpload(
  version: "1.1" | "2",
  url: string,
  headers: Record<string, string> = { "content-type": "application/x-ndjson" },
): HttpUpload {
  return version === "1.1" ? overHttp1(url, headers) : overHttp2(url, headers);
}

function overHttp1(url: string, headers: Record<string, string>): HttpUpload {
  const request: ClientRequest = requestHttp1(url, { method: "PUT", headers, agent: false });
  const reply = once(request, "response").then(async ([response]) => ({
    status: response.statusCode,
    headers: response.headers,
    text: await readText(response),
  }));
  request.flushHeaders();
  return httpUpload(request, reply, () => request.destroy());
}

function overHttp2(url: string, headers: Record<string, string>): HttpUpload {
  const { origin, pathname, search } = new URL(url);
  const session = connectHttp2(origin);
  session.on("error", () => {});
  const stream = session.request({ ":method": "PUT", ":path": pathname + search, ...headers });
  const reply = once(stream, "response").then(async ([head]) => ({
    status: Number(head[":status"]),
    headers: head,
    text: await readText(stream),
  }));
  stream.once("close", () => session.close());
  return httpUpload(stream, reply, () => stream.close(constants.NGHTTP2_CANCEL));
}

function httpUpload(
  body: ClientRequest | ClientHttp2Stream,
  reply: Promise<HttpReply>,
  cancel: () => void,
): HttpUpload {
  reply.catch(() => {});
  body.on("error", () => {});
  const closed = Promise.withResolvers<void>();
  body.once("close", closed.resolve);
  return {
    async write(piece) {
      const sink: Writable = body;
      if (sink.write(piece)) return;
      // Not events.once, which would reject when the connection breaks: `closed` and `reply` report that.
      const drained = new Promise((resolve) => sink.once("drain", resolve));
      await Promise.race([drained, closed.promise]);
    },
    end: () => void body.end(),
    cancel,
    reply,
    closed: closed.promise,
  };
}
