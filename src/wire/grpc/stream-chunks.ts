import type { ServerHttp2Stream } from "node:http2";

/**
 * Bytes that are read ahead of the consumer. The main thread is busy with rows for milliseconds at a time; what arrives
 * meanwhile is then at hand at once.
 */
const QUEUE_BYTES_MAX = 256 * 1024;

/**
 * The chunks of a request body, by "data" events: Node's own async iterator of a stream takes several times the CPU
 * time. Pauses the stream while the queue is full (backpressure).
 */
export class StreamChunks implements AsyncIterator<Buffer, undefined> {
  readonly #stream: ServerHttp2Stream;
  #queue: Buffer[] = [];
  #bytes = 0;
  #isEnded = false;
  #wake: (() => void) | undefined;

  constructor(stream: ServerHttp2Stream) {
    this.#stream = stream;
    // A stream without a body has ended while the caller was identified.
    this.#isEnded = stream.readableEnded;
    stream.on("data", this.#onData).once("end", this.#onEnd).once("close", this.#onEnd);
  }

  async next(): Promise<IteratorResult<Buffer, undefined>> {
    while (this.#queue.length === 0) {
      if (this.#isEnded) return { done: true, value: undefined };
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    const value = this.#queue.shift() as Buffer;
    this.#bytes -= value.length;
    if (this.#bytes < QUEUE_BYTES_MAX / 2 && this.#stream.isPaused()) this.#stream.resume();
    return { done: false, value };
  }

  /** Drops what was not read, and what still arrives. */
  async return(): Promise<IteratorResult<Buffer, undefined>> {
    this.#queue = [];
    this.#onEnd();
    this.#stream.off("data", this.#onData).off("end", this.#onEnd).off("close", this.#onEnd);
    if (!this.#stream.destroyed) this.#stream.resume();
    return { done: true, value: undefined };
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#queue.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes >= QUEUE_BYTES_MAX) this.#stream.pause();
    this.#wake?.();
  };

  readonly #onEnd = (): void => {
    this.#isEnded = true;
    this.#wake?.();
  };
}
