import { constants, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import type { Penalties } from "./penalties.ts";

/** Rate limit of an HTTP/2 session's stream resets. */
export interface ResetBounds {
  streamResetBurst: number;
  streamResetRate: number;
}

/** Streams that a session of an address under penalty may reset in a turn of the event loop before the session ends. */
const PENALIZED_RESETS_MAX = 10;

/**
 * Holds the streams of an HTTP/2 session back until all that arrived with their headers has been read. Node emits a
 * stream as soon as its headers are read; one that the following bytes reset (rapid reset, CVE-2023-44487) would cost a
 * request. Ends a session that does so too often, and records its address. Node does that too, but only after all bytes
 * that it has read: 64 KiB are 2,300 streams.
 */
export class ResetGate {
  readonly #session: ServerHttp2Session;
  readonly #address: string;
  readonly #penalties: Penalties;
  readonly #tokens: TokenBucket;
  #waiting = new Map<ServerHttp2Stream, () => void>();
  #resetsThisTurn = 0;
  #isAbusive = false;

  constructor(
    session: ServerHttp2Session,
    { streamResetBurst, streamResetRate }: ResetBounds,
    penalties: Penalties,
  ) {
    this.#session = session;
    this.#address = session.socket.remoteAddress ?? "";
    this.#penalties = penalties;
    this.#tokens = new TokenBucket(streamResetBurst, streamResetRate);
  }

  /** Calls `serve` later in this turn of the event loop, unless the stream is reset by then. */
  pass(stream: ServerHttp2Stream, serve: () => void): void {
    // Nobody else listens until the stream is served, and an `error` event without a listener ends the process. A GOAWAY with
    // an error that was read together with the stream has destroyed the session by now, and its streams are about to fail.
    stream.on("error", ignore);
    if (this.#session.destroyed) return;
    if (this.#waiting.size === 0) setImmediate(this.#serveAll);
    this.#waiting.set(stream, serve);
    // A penalty has to be known before the sockets of the other sessions are read, so resets are counted at once.
    for (const [first] of this.#waiting) {
      if (!isReset(first)) break;
      this.#waiting.delete(first);
      this.#countReset();
    }
  }

  readonly #serveAll = (): void => {
    const waiting = this.#waiting;
    this.#waiting = new Map();
    for (const [stream, serve] of waiting) {
      if (this.#session.destroyed) break;
      if (isReset(stream)) {
        this.#countReset();
        continue;
      }
      // Node emits the end of a body without bytes although nobody listens yet.
      const hasEnded = stream.readableEnded;
      serve();
      if (hasEnded) stream.emit("end");
    }
    this.#resetsThisTurn = 0;
  };

  #countReset(): void {
    this.#resetsThisTurn++;
    if (!this.#isAbusive && !this.#tokens.take()) {
      this.#isAbusive = true;
      this.#penalties.add(this.#address);
    }
    // Sessions that were open before the penalty: each would cost `streamResetBurst` streams once more.
    const isPenalized =
      this.#resetsThisTurn > PENALIZED_RESETS_MAX && this.#penalties.isPenalized(this.#address);
    if (this.#isAbusive || isPenalized) this.#session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }
}

/**
 * Ends a connection whose first bytes already reset too many streams, and records its address: Node hands those bytes to
 * the session at once, and emits the streams only then. Also ends the connection of an address under penalty, which was
 * accepted before. Returns whether it did.
 */
export function refuseFlood(
  socket: Socket,
  head: Buffer,
  { streamResetBurst }: ResetBounds,
  penalties: Penalties,
): boolean {
  const address = socket.remoteAddress ?? "";
  if (penalties.isPenalized(address)) {
    socket.destroy();
    return true;
  }
  if (countResets(head) <= streamResetBurst) return false;
  penalties.add(address);
  socket.end(GOODBYE, () => socket.destroy());
  return true;
}

const PREFACE_BYTES = 24;
const FRAME_HEAD_BYTES = 9;
const RST_STREAM = 3;

/** A server's SETTINGS without settings, and GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, 6.5 and 6.8). */
const GOODBYE = Buffer.from(
  [
    [0, 0, 0, 4, 0, 0, 0, 0, 0],
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11],
  ].flat(),
);

/** The number of RST_STREAM frames that follow the preface of HTTP/2. */
function countResets(bytes: Buffer): number {
  let count = 0;
  for (let at = PREFACE_BYTES; at + FRAME_HEAD_BYTES <= bytes.length;) {
    if (bytes[at + 3] === RST_STREAM) count++;
    at += FRAME_HEAD_BYTES + bytes.readUIntBE(at, 3);
  }
  return count;
}

function isReset(stream: ServerHttp2Stream): boolean {
  return stream.closed || stream.destroyed;
}

function ignore(): void {}

/** A rate limit: a burst of tokens, which come back at `perSecond`. */
class TokenBucket {
  readonly #burst: number;
  readonly #perSecond: number;
  #tokens: number;
  #atMs = performance.now();

  constructor(burst: number, perSecond: number) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#tokens = burst;
  }

  /** Takes a token; false where there is none. */
  take(): boolean {
    const now = performance.now();
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#atMs) / 1000) * this.#perSecond);
    this.#atMs = now;
    this.#tokens--;
    return this.#tokens >= 0;
  }
}
