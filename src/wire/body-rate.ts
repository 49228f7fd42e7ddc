import type { IncomingMessage } from "node:http";
import type { Http2ServerRequest, ServerHttp2Stream } from "node:http2";

/** The minimum rate at which the body of a unary request must arrive. */
export interface BodyRate {
  bodyWindowMs: number;
  bodyWindowBytesMin: number;
}

type Body = IncomingMessage | ServerHttp2Stream;

/**
 * Calls `onSlow` when fewer than `bodyWindowBytesMin` bytes of a request body arrive in a period of
 * `bodyWindowMs` before the body's end. An average over the whole body would not do: after 32 MiB at full
 * speed a client could hold them in memory for hours, one byte short of the end. Periods in which the service
 * itself reads nothing (backpressure) do not count. Bytes are counted in `push`, where Node adds them, because
 * a "data" listener would start the flow.
 */
export function requireBodyRate(body: Body, rate: BodyRate, onSlow: () => void): void {
  const { bodyWindowMs, bodyWindowBytesMin } = rate;
  let bytes = 0;
  let isComplete = false;
  const push = body.push.bind(body);
  body.push = (chunk: Buffer | null, encoding?: BufferEncoding) => {
    bytes += chunk?.length ?? 0;
    isComplete ||= chunk === null;
    return push(chunk, encoding);
  };
  const timer = setInterval(() => {
    if (isComplete || hasEnded(body)) return clearInterval(timer);
    const isBackedUp = body.readableLength >= body.readableHighWaterMark;
    if (bytes < bodyWindowBytesMin && !isBackedUp) {
      clearInterval(timer);
      onSlow();
    }
    bytes = 0;
  }, bodyWindowMs);
  timer.unref();
  body.once("close", () => clearInterval(timer));
}

/** Calls `onExceeded` once more than `bytesMax` bytes of a request body have arrived, and drops them. */
export function limitBody(body: Body, bytesMax: number, onExceeded: () => void): void {
  let bytes = 0;
  const push = body.push.bind(body);
  body.push = (chunk: Buffer | null, encoding?: BufferEncoding) => {
    const isWithin = bytes <= bytesMax;
    bytes += chunk?.length ?? 0;
    if (bytes <= bytesMax || chunk === null) return push(chunk, encoding);
    if (isWithin) onExceeded();
    return true;
  };
}

/**
 * Drops the body of a request that is refused unread. Without it the body stays in memory for as long as a client does
 * not read the answer, which HTTP/2's flow control lets a client do; over HTTP/1.1 it stays in the kernel.
 */
export function dropBody(request: IncomingMessage | Http2ServerRequest): void {
  if ("stream" in request) request.resume();
}

/** Whether the body's end has arrived, maybe before `requireBodyRate` was called; most requests have no body. */
function hasEnded(body: Body): boolean {
  if ("complete" in body && body.complete) return true;
  const stream = "stream" in body ? (body.stream as ServerHttp2Stream) : body;
  if (body.readableEnded) return true;
  // Nobody reads the body of a HEAD, nor that of a DELETE, so that no event tells of an end in a frame of its own.
  return "endAfterHeaders" in stream && (stream.endAfterHeaders || stream.state.remoteClose === 1);
}
