import { createServer, type RequestListener, type Server, type ServerOptions } from "node:http";
import {
  constants,
  createServer as createHttp2Server,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import type { Socket } from "node:net";
import type { SecureContextOptions } from "node:tls";

/** What bounds the connections of a port. Every field has a default in `portDefaults`. */
export interface PortOptions {
  /** Milliseconds a new connection has to show its protocol: first bytes, TLS handshake, HTTP/2 preface. */
  greetingTimeoutMs?: number;
  /** Milliseconds after which an HTTP/2 session without streams, or a silent HTTP/1.1 request, is ended. */
  idleTimeoutMs?: number;
  /** Milliseconds for the head of an HTTP/1.1 request. Node looks every 30 seconds. */
  headersTimeoutMs?: number;
  /** Milliseconds for a whole HTTP/1.1 request with its body; 0: no limit. */
  requestTimeoutMs?: number;
  /** Milliseconds an HTTP/1.1 connection is kept for the next request. */
  keepAliveTimeoutMs?: number;
  /** Bytes of one request's headers, in either version of HTTP. */
  headerBytesMax?: number;
  /** Open connections; those beyond are dropped at once. */
  connectionsMax?: number;
  /** Open streams of one HTTP/2 session; clients queue what is beyond. */
  streamsMax?: number;
  /** Bytes a client may send on one HTTP/2 stream ahead of the handler. */
  streamWindowBytes?: number;
  /** Bytes a client may send on all streams of one HTTP/2 session before Node has read them. */
  sessionWindowBytes?: number;
}

/** Serves a stream of HTTP/2 and returns true, or leaves it untouched to the request handler and returns false. */
export type ServeStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean;

/** The defaults of `PortOptions`. */
export const portDefaults: Required<PortOptions> = {
  greetingTimeoutMs: 10_000,
  idleTimeoutMs: 300_000,
  headersTimeoutMs: 30_000,
  // An upload may take hours; one that falls silent is ended by the idle timeout.
  requestTimeoutMs: 0,
  // Longer than the 60 seconds of common load balancers, so that they close first.
  keepAliveTimeoutMs: 72_000,
  headerBytesMax: 16_384,
  connectionsMax: 10_000,
  // The least that RFC 9113, 6.5.2 recommends: with the window it bounds what one session can buffer.
  streamsMax: 100,
  // At a round trip of 10 ms an upload ran at 526 rows/s with HTTP/2's 64 KiB windows, at 488 with
  // this stream window alone, and at 6,013 with both raised; larger ones gained nothing.
  streamWindowBytes: 1 << 20,
  sessionWindowBytes: 4 << 20,
};

/** Streams a client may reset at once, and per second after that, before its session is ended (CVE-2023-44487). */
const streamResetBurst = 1_000;
const streamResetRate = 100;

/** Node has no event for trailers that are sent; a client that does not read can hold them up for long. */
const trailersPollMs = 10;

/** Quiet milliseconds after which the operating system asks whether the peer still lives. */
const keepAliveProbeMs = 60_000;

/**
 * Creates the server of one cleartext port that speaks HTTP/1.1 and HTTP/2 with prior knowledge,
 * both to the same handler, but for the streams that `serveStream` takes; made for Fastify's `serverFactory`.
 *
 * It is a real `http.Server`, so listening, timeouts and keep-alive are Node's own. `close` lets open
 * requests and streams finish and ends all that is idle; a stream that never finishes holds it up
 * until `closeAllConnections`, which ends everything at once.
 */
export function createPortServer(
  handler: RequestListener,
  options: PortOptions = {},
  serveStream: ServeStream = declineStream,
): Server {
  const bounds = { ...portDefaults, ...options };
  const server = createServer(http1Options(bounds), handler);
  const route = serveBoth(server, "connection", bounds, serveStream);
  const undecided = new Set<Socket>();
  server.on("connection", (socket) => {
    undecided.add(socket);
    sniff(socket, bounds.greetingTimeoutMs, route, () => undecided.delete(socket));
  });
  onClose(server, () => {
    for (const socket of undecided) socket.destroy();
  });
  return server;
}

/** Creates the same server with TLS: the client chooses HTTP/1.1 or HTTP/2 by ALPN. */
export function createTlsPortServer(
  handler: RequestListener,
  options: PortOptions & SecureContextOptions,
  serveStream: ServeStream = declineStream,
): Server {
  const bounds = { ...portDefaults, ...options };
  const server = createHttpsServer(
    {
      ...options,
      ...http1Options(bounds),
      ALPNProtocols: ["h2", "http/1.1"],
      handshakeTimeout: bounds.greetingTimeoutMs,
    },
    handler,
  );
  const route = serveBoth(server, "secureConnection", bounds, serveStream);
  server.on("secureConnection", (socket) => route(socket, socket.alpnProtocol === "h2"));
  return server;
}

const declineStream: ServeStream = () => false;

type Route = (socket: Socket, isHttp2: boolean) => void;

function http1Options(bounds: Required<PortOptions>): ServerOptions {
  return {
    headersTimeout: bounds.headersTimeoutMs,
    requestTimeout: bounds.requestTimeoutMs,
    keepAliveTimeout: bounds.keepAliveTimeoutMs,
    maxHeaderSize: bounds.headerBytesMax,
    // Left to the request handler, for Node would answer in a form of its own.
    requireHostHeader: false,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: keepAliveProbeMs,
  };
}

/** Takes the server's sockets from it; the returned function gives each to HTTP/1.1 or HTTP/2. */
function serveBoth(
  server: Server,
  event: "connection" | "secureConnection",
  bounds: Required<PortOptions>,
  serveStream: ServeStream,
): Route {
  const http2 = createSessions(bounds);
  http2.on("request", (request, response) => server.emit("request", request, response));
  // With a listener for requests, Node has one of its own that makes them of streams.
  const toRequest = http2.listeners("stream");
  http2.removeAllListeners("stream");
  http2.on("stream", (stream, headers, ...rest) => {
    if (serveStream(stream, headers)) return;
    stream.once("wantTrailers", () => setImmediate(endUpload, stream));
    for (const listener of toRequest) listener.call(http2, stream, headers, ...rest);
  });
  // Node would refuse an expectation that it does not know, where RFC 9110, 10.1.1 allows to pass it over.
  server.on("checkExpectation", (request, response) => server.emit("request", request, response));
  const toHttp1 = server.listeners(event);
  server.removeAllListeners(event);
  server.maxConnections = bounds.connectionsMax;
  server.setTimeout(bounds.idleTimeoutMs);

  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.closeAllConnections = () => {
    for (const socket of sockets) socket.destroy();
  };
  onClose(server, () => {
    http2.close();
    // A request that ends from now on does not wait for another on its connection.
    server.keepAliveTimeout = 1;
    server.keepAliveTimeoutBuffer = 0;
  });
  return (socket, isHttp2) => {
    if (!server.listening) {
      socket.destroy();
    } else if (isHttp2) {
      // As http2's own server has it: the end of the client's side ends the socket.
      socket.allowHalfOpen = false;
      http2.emit("connection", socket);
    } else {
      for (const listener of toHttp1) listener.call(server, socket);
    }
  };
}

function onClose(server: Server, act: () => void): void {
  const close = server.close.bind(server);
  server.close = (callback) => {
    close(callback);
    act();
    return server;
  };
}

/** Calls `route` once the first bytes tell which protocol the socket speaks, and `settled` then or at its end. */
function sniff(socket: Socket, timeoutMs: number, route: Route, settled: () => void): void {
  let head: Buffer = Buffer.alloc(0);
  const onReadable = () => {
    const chunk = socket.read() as Buffer | null;
    if (chunk === null) return;
    head = Buffer.concat([head, chunk]);
    const start = head.toString("latin1", 0, 3);
    const isHttp2 = start === "PRI";
    // Bytes are put back only when enough are there: unshifting too few fires "readable" for ever.
    if (!isHttp2 && "PRI".startsWith(start)) return;
    release();
    socket.unshift(head);
    route(socket, isHttp2);
  };
  const drop = () => socket.destroy();
  const release = () => {
    clearTimeout(deadline);
    socket.off("readable", onReadable).off("end", drop).off("error", drop).off("close", release);
    settled();
  };
  const deadline = setTimeout(drop, timeoutMs);
  socket.on("readable", onReadable).on("end", drop).on("error", drop).on("close", release);
}

/** An HTTP/2 server that does not listen: sockets come by its "connection" event. */
function createSessions(bounds: Required<PortOptions>): Http2Server {
  const server = createHttp2Server({
    settings: {
      initialWindowSize: bounds.streamWindowBytes,
      maxConcurrentStreams: bounds.streamsMax,
      maxHeaderListSize: bounds.headerBytesMax,
    },
    streamResetBurst,
    streamResetRate,
  });
  server.on("session", (session) => boundSession(session, bounds));
  return server;
}

function boundSession(session: ServerHttp2Session, bounds: Required<PortOptions>): void {
  session.setLocalWindowSize(bounds.sessionWindowBytes);
  const greeting = setTimeout(() => session.destroy(), bounds.greetingTimeoutMs);
  session.once("remoteSettings", () => clearTimeout(greeting));
  session.once("close", () => clearTimeout(greeting));

  let streams = 0;
  session.on("stream", (stream) => {
    streams++;
    stream.once("close", () => streams--);
  });
  session.setTimeout(bounds.idleTimeoutMs);
  session.on("timeout", () => {
    if (streams === 0) session.close();
  });
}

/**
 * Ends a stream whose response is complete while the client still uploads, as a failed client
 * stream is: nothing else would, and each would stay in memory. NO_ERROR keeps the response valid
 * (RFC 9113, 8.1). The end waits for the response: it would go out before it, and that be lost.
 */
export function endUpload(stream: ServerHttp2Stream): void {
  if (stream.destroyed || stream.state.remoteClose === 1) return;
  if (stream.state.localClose === 1) stream.close(constants.NGHTTP2_NO_ERROR);
  else setTimeout(endUpload, trailersPollMs, stream);
}
