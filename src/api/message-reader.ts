import { deadlineExceeded } from "../errors.ts";

/** The result of reading a stream: a message, the stream's end, or a shutdown of the service. */
export type Next<Message> = { kind: "message"; message: Message } | { kind: "end" } | { kind: "draining" };

/** Limits of reading a stream. */
export interface MessagesOptions {
  /** Idle timeout: milliseconds without a message from the client. */
  idleMs: number;
  /** Aborts when the shutdown begins. */
  draining: AbortSignal;
}

/**
 * Reads a stream one message at a time, without reading ahead: HTTP/2's flow control then slows the client
 * down (backpressure). The idle timeout runs only while the service waits for a message and owes the client
 * no reply, so a client that waits for an acknowledgement is never idle.
 */
export class Messages<Message> {
  readonly #iterator: AsyncIterator<Message>;
  readonly #options: MessagesOptions;
  readonly #signal: AbortSignal;
  #pending: Promise<Next<Message>> | undefined;
  /** Number of works whose results the client may be waiting for. */
  #owed = 0;
  #silentSinceMs = 0;

  constructor(stream: AsyncIterable<Message>, options: MessagesOptions, signal: AbortSignal) {
    this.#iterator = stream[Symbol.asyncIterator]();
    this.#options = options;
    this.#signal = signal;
  }

  /** Awaits work whose result the client may be waiting for, and suspends the idle timeout meanwhile. */
  async owing<T>(work: Promise<T>): Promise<T> {
    this.#owed++;
    try {
      return await work;
    } finally {
      this.#owed--;
      this.#silentSinceMs = performance.now();
    }
  }

  /**
   * Reads the next message. Throws DEADLINE_EXCEEDED after the idle timeout, and the signal's reason when the
   * call aborts. A shutdown is not an error but the result `draining`.
   */
  async next(): Promise<Next<Message>> {
    const { idleMs, draining } = this.#options;
    this.#signal.throwIfAborted();
    if (draining.aborted) return { kind: "draining" };
    const stopped = Promise.withResolvers<Next<Message>>();
    const drain = () => stopped.resolve({ kind: "draining" });
    const abort = () => stopped.reject(this.#signal.reason);
    this.#silentSinceMs = performance.now();
    const watch = () => {
      const leftMs = this.#owed > 0 ? idleMs : this.#silentSinceMs + idleMs - performance.now();
      if (leftMs > 0) timer = setTimeout(watch, leftMs);
      else stopped.reject(deadlineExceeded(`The stream was idle for ${idleMs / 1000} seconds.`));
    };
    let timer = setTimeout(watch, idleMs);
    draining.addEventListener("abort", drain, { once: true });
    this.#signal.addEventListener("abort", abort, { once: true });
    try {
      const next = await Promise.race([this.#read(), stopped.promise]);
      if (next.kind === "message") this.#pending = undefined;
      return next;
    } finally {
      clearTimeout(timer);
      draining.removeEventListener("abort", drain);
      this.#signal.removeEventListener("abort", abort);
    }
  }

  /** Whether a message, the stream's end or an error arrives within `waitMs`. */
  async isReady(waitMs: number): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const timer = setTimeout(() => resolve(false), waitMs);
    try {
      return await Promise.race([this.#read().then(ready, ready), promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  #read(): Promise<Next<Message>> {
    this.#pending ??= this.#iterator
      .next()
      .then((result): Next<Message> =>
        result.done === true ? { kind: "end" } : { kind: "message", message: result.value },
      );
    return this.#pending;
  }
}

function ready(): true {
  return true;
}
