import { once } from "node:events";
import type { OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { ConnectError } from "@connectrpc/connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import { endUpload } from "../port.ts";

/** Bytes of the prefix of a gRPC message: 1 of "Compressed-Flag", 4 of "Message-Length". */
export const PREFIX_BYTES = 5;

/**
 * The response of a gRPC call, on its HTTP/2 stream. Does nothing once the stream is closed. Protocol:
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
 */
export class GrpcResponse {
  readonly #stream: ServerHttp2Stream;
  readonly #headers: OutgoingHttpHeaders;
  #trailers: OutgoingHttpHeaders = { "grpc-status": "0" };

  constructor(stream: ServerHttp2Stream, requestId: string) {
    this.#stream = stream;
    this.#headers = {
      ":status": 200,
      "content-type": "application/grpc+proto",
      "x-request-id": requestId,
    };
  }

  /** Adds headers to the response, before it has begun. */
  addHeaders(headers: Record<string, string> = {}): void {
    Object.assign(this.#headers, headers);
  }

  /** Whether nobody receives the response any more. */
  get isClosed(): boolean {
    return this.#stream.closed || this.#stream.destroyed;
  }

  /**
   * Sends the only message of a response, with further headers, in one write. The trailers follow in a write of their
   * own, 10 bytes: Node hands them to nghttp2 in a later turn of the event loop.
   */
  end(message: Uint8Array, headers: Headers): void {
    if (this.isClosed) return;
    this.#begin(headers);
    this.#stream.end(frame(message));
    this.#endUpload();
  }

  /** Sends one of several messages. Waits until the client takes more (backpressure), or the signal aborts. */
  async write(message: Uint8Array, headers: Headers, signal: AbortSignal): Promise<void> {
    if (this.isClosed) return;
    if (!this.#stream.headersSent) this.#begin(headers);
    if (!this.#stream.write(frame(message))) await once(this.#stream, "drain", { signal });
  }

  /** Ends a response of several messages, or of none. */
  finish(headers: Headers): void {
    if (this.isClosed) return;
    if (!this.#stream.headersSent) this.#begin(headers);
    this.#stream.end();
    this.#endUpload();
  }

  /**
   * Ends the response with an error, even if the client is still uploading; the rest is discarded. Before any message
   * the error is sent as headers only ("Trailers-Only").
   */
  fail(error: ConnectError): void {
    if (this.isClosed) return;
    const status = Object.fromEntries(setTrailerStatus(new Headers(), error));
    const trailers = { ...status, "grpc-message": encodeMessage(error.rawMessage) };
    if (this.#stream.headersSent) {
      this.#trailers = trailers;
      this.#stream.end();
    } else this.#stream.respond({ ...this.#headers, ...trailers }, { endStream: true });
    this.#endUpload();
  }

  #begin(headers: Headers): void {
    this.#stream.once("wantTrailers", () => this.#stream.sendTrailers(this.#trailers));
    this.#stream.respond({ ...this.#headers, ...Object.fromEntries(headers) }, { waitForTrailers: true });
  }

  #endUpload(): void {
    if (this.#stream.readableEnded) return;
    this.#stream.removeAllListeners("data").resume();
    setImmediate(endUpload, this.#stream);
  }
}

function frame(message: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  bytes.writeUInt8(0);
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, PREFIX_BYTES);
  return bytes;
}

/**
 * Percent-encodes "%" and everything except printable ASCII, as gRPC requires for the header `grpc-message`.
 */
export function encodeMessage(message: string): string {
  return message.toWellFormed().replace(/[^ -$&-~]+/gu, encodeURIComponent);
}
