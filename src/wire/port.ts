import { createServer, type RequestListener, type Server, type ServerOptions } from "node:http";
import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import { Server as NetServer, type Socket } from "node:net";
import type { SecureContextOptions } from "node:tls";
import { boundAddresses } from "./addresses.ts";
import { hasUnknownExpectation } from "./headers.ts";
import { refuseFlood } from "./http2/reset-gate.ts";
import { createSessions, jitter, type ServeAny } from "./http2/sessions.ts";
import { Penalties } from "./http2/penalties.ts";
import { sniff, type Route } from "./sniff.ts";

/** Limits of a port's connections. Every field has a default in `portDefaults`. */
export interface PortOptions {
  /** Timeout in ms for a new connection to show its protocol: first bytes, TLS handshake, HTTP/2 preface. */
  greetingTimeoutMs?: number;
  /** Idle timeout in ms of an HTTP/2 session without streams, and of an HTTP/1.1 socket without traffic. */
  idleTimeoutMs?: number;
  /** Timeout in ms for the headers of an HTTP/1.1 request. Node checks every 30 seconds. */
  headersTimeoutMs?: number;
  /** Timeout in ms for a whole HTTP/1.1 request including its body; 0: none. */
  requestTimeoutMs?: number;
  /** Keep-alive timeout in ms of an HTTP/1.1 connection without a request. */
  keepAliveTimeoutMs?: number;
  /** Maximum size in bytes of a request's headers, for HTTP/1.1 and HTTP/2. */
  headerBytesMax?: number;
  /** Age in ms at which a connection is closed as soon as its open requests have ended. */
  connectionAgeMaxMs?: number;
  /** Maximum number of open connections; more are closed at once. */
  connectionsMax?: number;
  /** Maximum number of open connections of one address; more are closed at once. */
  connectionsPerAddressMax?: number;
  /** Maximum number of concurrent streams of an HTTP/2 session; clients queue further requests. */
  streamsMax?: number;
  /** Number of streams after which an HTTP/2 session is closed by GOAWAY as soon as they have ended. */
  streamsPerSessionMax?: number;
  /** Maximum number of open HTTP/2 streams, of all sessions and of one address; more are refused. */
  streamsTotalMax?: number;
  streamsPerAddressMax?: number;
  /** HTTP/2 flow-control window of a stream: bytes a client may send ahead of the handler. */
  streamWindowBytes?: number;
  /**
   * HTTP/2 flow-control window of a session: bytes a client may send on all streams before Node has read
   * them.
   */
  sessionWindowBytes?: number;
  /** Maximum size in bytes of the part of a reply that an HTTP/2 session holds for a stream. */
  writePieceBytes?: number;
  /** Timeout in ms for a client to take such a part of a reply; then the stream is reset. */
  writeStallTimeoutMs?: number;
  /**
   * Bytes of reset replies that may stay in the memory of an HTTP/2 session before the session is closed by
   * GOAWAY, after which clients connect again. Node refuses streams at 10 MB (`maxSessionMemory`).
   */
  sessionLostBytesMax?: number;
  /** Maximum bytes of all unary replies above 16 KiB that clients have not read yet. */
  unreadBytesMax?: number;
  /** How long a reply may wait to be read, in ms, before a new one may end it when `unreadBytesMax` is used up. */
  unreadGraceMs?: number;
  /** Minimum bytes of a unary request's body that must arrive in each period of `bodyWindowMs`. */
  bodyWindowBytesMin?: number;
  bodyWindowMs?: number;
  /** Maximum bytes of the body of a gRPC health check, which needs no key. */
  healthBytesMax?: number;
  /**
   * Rate limit of stream resets by the client of an HTTP/2 session (rapid reset attack, CVE-2023-44487): burst,
   * and resets per second. Beyond it the session ends by GOAWAY.
   */
  streamResetBurst?: number;
  streamResetRate?: number;
  /**
   * Maximum number of such sessions of an address within `abuseWindowMs`; then new connections of the address are
   * closed for as long, and its open sessions end when they reset some streams.
   */
  abusiveConnectionsMax?: number;
  abuseWindowMs?: number;
}

/** A server of a port. */
export interface PortServer extends Server {
  /**
   * Takes no new connections, and makes clients leave: HTTP/2 sessions get GOAWAY, HTTP/1.1 connections end with
   * their next response. Idle ones stay until `close`, because a request that is on its way would be lost.
   */
  retire: () => void;
}

/** Serves an HTTP/2 stream and returns true; or returns false, and the request handler serves the stream. */
export type ServeStream = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => boolean;

/** The defaults of `PortOptions`. */
export const portDefaults: Required<PortOptions> = {
  greetingTimeoutMs: 10_000,
  idleTimeoutMs: 300_000,
  headersTimeoutMs: 30_000,
  // An upload may take hours; the idle timeout ends a stalled one.
  requestTimeoutMs: 0,
  // Longer than the usual 60 seconds of load balancers, so that the load balancer closes first: otherwise it
  // could send a request on a connection that the server is closing.
  keepAliveTimeoutMs: 72_000,
  headerBytesMax: 16_384,
  // Clients connect again, to a new replica where there is one.
  connectionAgeMaxMs: 3_600_000,
  connectionsMax: 10_000,
  // Half of all: one client leaves room for others, and a proxy, whose address all its clients have, enough.
  connectionsPerAddressMax: 5_000,
  // The minimum recommended by RFC 9113, 6.5.2. Streams times stream window bound the memory of one session.
  streamsMax: 100,
  // After some 400,000 random requests on one session, many of them broken or cancelled, Node refused one stream in a
  // hundred with ENHANCE_YOUR_CALM: what it counts against `maxSessionMemory` and does not subtract had added up.
  streamsPerSessionMax: 100_000,
  // As many as HTTP/1.1 requests, of which each connection has one.
  streamsTotalMax: 10_000,
  streamsPerAddressMax: 5_000,
  // Measured upload at a round-trip time of 10 ms: 526 rows/s with HTTP/2's default windows of 64 KiB, 488
  // with only the stream window raised, 6,013 with both raised; larger windows gained nothing.
  streamWindowBytes: 1 << 20,
  sessionWindowBytes: 4 << 20,
  // The default size of an HTTP/2 frame. Larger pieces gained nothing: 0.9 to 1 GB/s over loopback, as without pieces.
  writePieceBytes: 1 << 14,
  writeStallTimeoutMs: 30_000,
  sessionLostBytesMax: 4 << 20,
  // Some forty pages of 3 MiB.
  unreadBytesMax: 128 << 20,
  unreadGraceMs: 2_000,
  // 1.6 KiB/s: below any connection that can be used.
  bodyWindowBytesMin: 1 << 14,
  bodyWindowMs: 10_000,
  healthBytesMax: 1_024,
  // Twice `streamsMax`: a client may cancel all its calls at once, and those that follow.
  streamResetBurst: 200,
  streamResetRate: 100,
  // A proxy would have to pass on a thousand cancelled calls of its clients within five seconds.
  abusiveConnectionsMax: 5,
  abuseWindowMs: 5_000,
};

/**
 * Polling interval of `endUpload`: Node has no event for sent trailers, which a client that does not read
 * delays.
 */
const trailersPollMs = 10;

/** Idle milliseconds before the operating system sends TCP keep-alive probes, which detect dead peers. */
const keepAliveProbeMs = 60_000;

/**
 * Creates a cleartext server that speaks HTTP/1.1 and HTTP/2 with prior knowledge (h2c) on one port, for
 * Fastify's `serverFactory`. Both protocols use the same `handler`, except for the HTTP/2 streams that
 * `serveStream` accepts.
 *
 * The result is a real `http.Server`, so listening, timeouts and keep-alive are Node's own. `close` ends idle
 * connections and waits for open requests and streams; `closeAllConnections` ends these at once.
 */
export function createPortServer(
  handler: RequestListener,
  options: PortOptions = {},
  serveStream: ServeStream = declineStream,
): PortServer {
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
  return server as PortServer;
}

/** Like `createPortServer`, with TLS: the protocol is negotiated by ALPN. */
export function createTlsPortServer(
  handler: RequestListener,
  options: PortOptions & SecureContextOptions,
  serveStream: ServeStream = declineStream,
): PortServer {
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
  server.on("secureConnection", (socket) => route(socket, socket.alpnProtocol === "h2", Buffer.alloc(0)));
  return server as Server as PortServer;
}

const declineStream: ServeStream = () => false;

function http1Options(bounds: Required<PortOptions>): ServerOptions {
  return {
    headersTimeout: bounds.headersTimeoutMs,
    requestTimeout: bounds.requestTimeoutMs,
    keepAliveTimeout: bounds.keepAliveTimeoutMs,
    maxHeaderSize: bounds.headerBytesMax,
    // The request handler checks the Host header: Node's own check would not answer with OpenAI's error body.
    requireHostHeader: false,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: keepAliveProbeMs,
  };
}

/**
 * Replaces the server's own connection listener; returns a function that passes a socket to HTTP/1.1 or
 * HTTP/2.
 */
function serveBoth(
  server: Server,
  event: "connection" | "secureConnection",
  bounds: Required<PortOptions>,
  serveStream: ServeStream,
): Route {
  const penalties = new Penalties(bounds);
  const serve: ServeAny = (stream, headers, ...rest) => {
    if (serveStream(stream, headers)) return;
    stream.once("wantTrailers", () => setImmediate(endUpload, stream));
    for (const listener of toRequest) listener.call(http2, stream, headers, ...rest);
  };
  const http2 = createSessions(bounds, penalties, serve);
  http2.on("request", (request, response) => server.emit("request", request, response));
  // Registering a "request" listener makes Node add a "stream" listener, which creates the request objects.
  // `serve` replaces it, so that no request object is created for a stream that `serveStream` accepts.
  const toRequest = http2.listeners("stream");
  http2.removeAllListeners("stream");
  // Without these listeners Node answers 417 to an Expect header that it does not know, without OpenAI's error
  // body, and over HTTP/2 to `100-Continue` too, since it compares the case.
  server.on("checkExpectation", (request, response) => server.emit("request", request, response));
  http2.on("checkExpectation", (request, response) => {
    if (!hasUnknownExpectation(request)) response.writeContinue();
    server.emit("request", request, response);
  });
  const toHttp1 = server.listeners(event);
  server.removeAllListeners(event);
  server.maxConnections = bounds.connectionsMax;
  boundAddresses(server, bounds.connectionsPerAddressMax, penalties);
  // Node's cluster would otherwise offer a connection that no worker takes to the workers again and again.
  (server as Server & { dropMaxConnection: boolean }).dropMaxConnection = true;
  endStalled(server, bounds);
  const ageAll = closeAged(server, event, bounds.connectionAgeMaxMs);

  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.closeAllConnections = () => {
    for (const socket of sockets) socket.destroy();
  };
  let isClosed = false;
  (server as PortServer).retire = () => {
    ageAll();
    NetServer.prototype.close.call(server);
    http2.close();
  };
  onClose(server, () => {
    isClosed = true;
    http2.close();
    // Disables keep-alive during the shutdown: a connection closes as soon as its current request has ended.
    server.keepAliveTimeout = 1;
    server.keepAliveTimeoutBuffer = 0;
  });
  return (socket, isHttp2, head) => {
    if (isClosed) {
      socket.destroy();
    } else if (isHttp2) {
      if (refuseFlood(socket, head, bounds, penalties)) return;
      // Like Node's http2 server: no half-open TCP, so the socket closes when the client has closed its side.
      socket.allowHalfOpen = false;
      http2.emit("connection", socket);
    } else {
      for (const listener of toHttp1) listener.call(server, socket);
    }
  };
}

/**
 * Closes HTTP/1.1 connections whose client does not read its reply for `writeStallTimeoutMs`, and those
 * without any traffic for `idleTimeoutMs`. The timeout of a socket whose kernel buffer takes part of a large
 * write restarts, so slow clients go on.
 */
function endStalled(server: Server, { writeStallTimeoutMs, idleTimeoutMs }: Required<PortOptions>): void {
  const periodMs = Math.min(writeStallTimeoutMs, idleTimeoutMs);
  const idle = new WeakMap<Socket, { bytes: number; sinceMs: number }>();
  server.setTimeout(periodMs, (socket) => {
    // Between requests Node sets its own timeout, `keepAliveTimeout`.
    if (socket.timeout !== periodMs || socket.writableLength > 0) return void socket.destroy();
    const bytes = socket.bytesRead + socket.bytesWritten;
    const last = idle.get(socket);
    const sinceMs = last?.bytes === bytes ? last.sinceMs : performance.now() - periodMs;
    if (performance.now() - sinceMs >= idleTimeoutMs) return void socket.destroy();
    idle.set(socket, { bytes, sinceMs });
    socket.setTimeout(periodMs);
  });
}

/**
 * Sends `Connection: close` with an HTTP/1.1 response on a connection older than `ageMaxMs`. Returns a function that
 * makes all connections count as older.
 */
function closeAged(server: Server, event: "connection" | "secureConnection", ageMaxMs: number): () => void {
  let isOver = false;
  const endsAtMs = new WeakMap<Socket, number>();
  server.on(event, (socket: Socket) => endsAtMs.set(socket, performance.now() + jitter(ageMaxMs)));
  server.prependListener("request", ({ socket, httpVersionMajor }, response) => {
    const isAged = isOver || performance.now() > (endsAtMs.get(socket) ?? Infinity);
    if (httpVersionMajor === 1 && isAged) response.shouldKeepAlive = false;
  });
  return () => (isOver = true);
}

function onClose(server: Server, act: () => void): void {
  const close = server.close.bind(server);
  server.close = (callback) => {
    close(callback);
    act();
    return server;
  };
}

/**
 * Resets a stream whose response is complete while the client is still uploading (half-closed local), for
 * example after an early error. Node does not reset such a stream, so each would stay in memory as long as
 * the client sends. The code NO_ERROR tells the client to use the response (RFC 9113, 8.1). The reset must
 * not overtake the response, or the response would be lost; so wait until the response is sent.
 */
export function endUpload(stream: ServerHttp2Stream): void {
  if (stream.destroyed || stream.state.remoteClose === 1) return;
  if (stream.state.localClose === 1) stream.close(constants.NGHTTP2_NO_ERROR);
  else setTimeout(endUpload, trailersPollMs, stream);
}
