import {
  constants,
  createServer,
  type Http2Server,
  type IncomingHttpHeaders,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import { Slots } from "../../api/concurrency/slots.ts";
import { boundWrites, type WriteBounds } from "./writes.ts";
import type { Penalties } from "./penalties.ts";
import { ResetGate, type ResetBounds } from "./reset-gate.ts";

/** Limits of an HTTP/2 session: those of a port that concern it, see `PortOptions`. */
interface SessionBounds extends WriteBounds, ResetBounds {
  greetingTimeoutMs: number;
  idleTimeoutMs: number;
  headerBytesMax: number;
  connectionAgeMaxMs: number;
  streamsMax: number;
  streamsPerSessionMax: number;
  streamsTotalMax: number;
  streamsPerAddressMax: number;
  streamWindowBytes: number;
  sessionWindowBytes: number;
  sessionLostBytesMax: number;
}

/** Serves an HTTP/2 stream; takes what the event "stream" gives. */
export type ServeAny = (stream: ServerHttp2Stream, headers: IncomingHttpHeaders, ...rest: unknown[]) => void;

/** Creates an HTTP/2 server that does not listen; it gets its sockets through the "connection" event. */
export function createSessions(bounds: SessionBounds, penalties: Penalties, serve: ServeAny): Http2Server {
  const server = createServer({
    settings: {
      initialWindowSize: bounds.streamWindowBytes,
      maxConcurrentStreams: bounds.streamsMax,
      maxHeaderListSize: bounds.headerBytesMax,
    },
    streamResetBurst: bounds.streamResetBurst,
    streamResetRate: bounds.streamResetRate,
  });
  const streams = new Slots(bounds.streamsTotalMax, bounds.streamsPerAddressMax);
  server.on("session", (session) => {
    const admit = boundSession(session, bounds, streams);
    const gate = new ResetGate(session, bounds, penalties);
    session.on("stream", (stream, ...rest) =>
      gate.pass(stream, () => {
        if (admit(stream)) serve(stream, ...rest);
      }),
    );
  });
  return server;
}

/** Bounds a session; returns a function that bounds one of its streams, or refuses the stream. */
function boundSession(
  session: ServerHttp2Session,
  bounds: SessionBounds,
  slots: Slots,
): (stream: ServerHttp2Stream) => boolean {
  const address = session.socket.remoteAddress ?? "";
  session.setLocalWindowSize(bounds.sessionWindowBytes);
  const greeting = setTimeout(() => session.destroy(), bounds.greetingTimeoutMs);
  session.once("remoteSettings", () => clearTimeout(greeting));
  const aged = setTimeout(() => session.close(), jitter(bounds.connectionAgeMaxMs)).unref();
  session.once("close", () => {
    clearTimeout(greeting);
    clearTimeout(aged);
  });

  let streams = 0;
  let streamsEver = 0;
  let lostBytes = 0;
  const onLost = (bytes: number) => {
    lostBytes += bytes;
    if (lostBytes > bounds.sessionLostBytesMax && !session.closed) session.close();
  };
  session.setTimeout(bounds.idleTimeoutMs);
  session.on("timeout", () => {
    if (streams === 0) session.close();
  });
  return (stream) => {
    const slot = slots.tryTake(address);
    if (slot === undefined) {
      // The code says that nothing was done for the stream, so clients may send the request again (RFC 9113, 8.7).
      stream.close(constants.NGHTTP2_REFUSED_STREAM);
      return false;
    }
    boundWrites(stream, bounds, onLost);
    streams++;
    streamsEver++;
    if (streamsEver >= bounds.streamsPerSessionMax && !session.closed) session.close();
    stream.once("close", () => {
      streams--;
      slot[Symbol.dispose]();
    });
    return true;
  };
}

/** Spreads the ends of connections that began together, by a tenth each way. */
export function jitter(ms: number): number {
  return ms * (0.9 + 0.2 * Math.random());
}
