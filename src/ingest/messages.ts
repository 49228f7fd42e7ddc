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
 * HTTP/2's windows then hold the client back.
 */
export class Messages<Message> {
  readonly #iterator: AsyncIterator<Message>;
  readonly #options: MessagesOptions;
  #pending: Promise<Next<Message>> | undefined;

  constructor(stream: AsyncIterable<Message>, options: MessagesOptions) {
    this.#iterator = stream[Symbol.asyncIterator]();
    this.#options = options;
  }

  /** The next message. A client silent for too long is DEADLINE_EXCEEDED; a service that ends is no error. */
  async next(): Promise<Next<Message>> {
    const { idleMs, draining } = this.#options;
    if (draining.aborted) return { kind: "draining" };
    const stopped = Promise.withResolvers<Next<Message>>();
    const drain = () => stopped.resolve({ kind: "draining" });
    const timer = setTimeout(() => {
      stopped.reject(deadlineExceeded(`The stream was silent for ${idleMs / 1000} seconds.`));
    }, idleMs);
    draining.addEventListener("abort", drain, { once: true });
    try {
      const next = await Promise.race([this.#read(), stopped.promise]);
      if (next.kind === "message") this.#pending = undefined;
      return next;
    } finally {
      clearTimeout(timer);
      draining.removeEventListener("abort", drain);
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
