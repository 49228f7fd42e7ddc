import { deadlineExceeded } from "../errors.ts";

/** The next of a stream: a message, its end, or a reason to stop reading. */
export type Next<Message> = { kind: "message"; message: Message } | { kind: "end" } | { kind: "draining" };

/** What bounds the reading of a stream. */
export interface MessagesOptions {
  /** Milliseconds a client may be silent. */
  idleMs: number;
  /** Aborts when the service is about to end. */
  draining: AbortSignal;
}

/**
 * Reads a stream of messages one at a time, so that nothing is read ahead of what is asked for:
 * HTTP/2's windows then hold the client back. A client is silent from when the service has both
 * asked for its next message and nothing left to tell it.
 */
export class Messages<Message> {
  readonly #iterator: AsyncIterator<Message>;
  readonly #options: MessagesOptions;
  readonly #signal: AbortSignal;
  #pending: Promise<Next<Message>> | undefined;
  #isOwing = false;
  #silentSinceMs = 0;

  constructor(stream: AsyncIterable<Message>, options: MessagesOptions, signal: AbortSignal) {
    this.#iterator = stream[Symbol.asyncIterator]();
    this.#options = options;
    this.#signal = signal;
  }

  /** Awaits work for whose outcome the client may be waiting, and so is not silent. */
  async owing<T>(work: Promise<T>): Promise<T> {
    this.#isOwing = true;
    try {
      return await work;
    } finally {
      this.#isOwing = false;
      this.#silentSinceMs = performance.now();
    }
  }

  /** The next message. A client silent for too long is DEADLINE_EXCEEDED; a service that ends is no error. */
  async next(): Promise<Next<Message>> {
    const { idleMs, draining } = this.#options;
    this.#signal.throwIfAborted();
    if (draining.aborted) return { kind: "draining" };
    const stopped = Promise.withResolvers<Next<Message>>();
    const drain = () => stopped.resolve({ kind: "draining" });
    const abort = () => stopped.reject(this.#signal.reason);
    this.#silentSinceMs = performance.now();
    const watch = () => {
      const leftMs = this.#isOwing ? idleMs : this.#silentSinceMs + idleMs - performance.now();
      if (leftMs > 0) timer = setTimeout(watch, leftMs);
      else stopped.reject(deadlineExceeded(`The stream was silent for ${idleMs / 1000} seconds.`));
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

  /** Whether `next` would give something within `waitMs`. */
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
