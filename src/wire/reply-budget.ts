import type { ServerResponse } from "node:http";
import { constants, type Http2ServerResponse, type ServerHttp2Stream } from "node:http2";
import { rateLimited } from "../errors.ts";

/** Limits of the replies that wait to be sent. */
export interface ReplyBounds {
  /** Maximum bytes of all replies that clients have not read yet. */
  unreadBytesMax: number;
  /** How long a reply may wait for its client before a new reply may take its place, in ms. */
  unreadGraceMs: number;
}

/** Bytes of a reply that is not counted: most replies are that small. */
const FREE_BYTES = 16 * 1024;

type Response = ServerResponse | Http2ServerResponse | ServerHttp2Stream;

interface Held {
  bytes: number;
  sinceMs: number;
}

/**
 * A budget for the replies of unary calls that clients have not read, of all protocols and connections: each client
 * alone may leave a large reply unread until its write stalls. When the budget is full, the oldest replies are ended,
 * whose clients have had their time; where all are young the new reply is refused.
 */
export class ReplyBudget {
  readonly #bounds: ReplyBounds;
  /** In the order of their age. */
  readonly #held = new Map<Response, Held>();
  #bytes = 0;

  constructor(bounds: ReplyBounds) {
    this.#bounds = bounds;
  }

  /** Counts a reply until its response is closed. Throws RATE_LIMIT_EXCEEDED. */
  hold(response: Response, bytes: number): void {
    if (bytes <= FREE_BYTES) return;
    this.#makeRoom(bytes);
    this.#held.set(response, { bytes, sinceMs: performance.now() });
    this.#bytes += bytes;
    response.once("close", () => this.#release(response));
  }

  #makeRoom(bytes: number): void {
    const { unreadBytesMax, unreadGraceMs } = this.#bounds;
    for (const [response, { sinceMs }] of this.#held) {
      if (this.#bytes + bytes <= unreadBytesMax) return;
      if (performance.now() - sinceMs < unreadGraceMs)
        throw rateLimited("Too many replies wait to be read: try again later.", unreadGraceMs);
      this.#release(response);
      end(response);
    }
  }

  #release(response: Response): void {
    this.#bytes -= this.#held.get(response)?.bytes ?? 0;
    this.#held.delete(response);
  }
}

function end(response: Response): void {
  if ("close" in response) response.close(constants.NGHTTP2_CANCEL);
  else if ("stream" in response) response.stream.close(constants.NGHTTP2_CANCEL);
  else response.destroy();
}
