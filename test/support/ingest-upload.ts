import { once } from "node:events";
import { request as requestHttp1, type ClientRequest } from "node:http";
import { connect as connectHttp2, constants, type ClientHttp2Stream } from "node:http2";
import type { Writable } from "node:stream";
import { text as readText } from "node:stream/consumers";

/** The answer to an upload over HTTP. */
export interface HttpReply {
  status: number;
  headers: Record<string, string>;
  text: string;
}

/** An upload over HTTP, as it goes on. */
export interface HttpUpload {
  /** Sends a piece of the body and waits until the transport takes more; forever, where nobody reads it. */
  readonly write: (piece: string | Uint8Array) => Promise<void>;
  readonly end: () => void;
  /** Gives up: cuts the connection of HTTP/1.1, resets the stream of HTTP/2. */
  readonly cancel: () => void;
  reply: Promise<HttpReply>;
  /** Resolves when the stream, or the connection of HTTP/1.1, is over. */
  closed: Promise<void>;
}

/** Begins an upload over this version of HTTP. */
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
      // A listener of its own: `once` would reject where the connection breaks, which `closed` and `reply` tell.
      const drained = new Promise((resolve) => sink.once("drain", resolve));
      await Promise.race([drained, closed.promise]);
    },
    end: () => void body.end(),
    cancel,
    reply,
    closed: closed.promise,
  };
}
