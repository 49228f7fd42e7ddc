import { beginWait } from "../postgres/connection/wait-budget.ts";
import { exhausted } from "../postgres/errors.ts";
import { traced } from "../tracing.ts";

/** Calls that may wait for transactions, per connection of the pool: as many as may wait for a connection. */
const WAITING_PER_CONNECTION = 50;

/** The place of a call that waits for a transaction which it shares with others. */
export interface Turn<T> {
  /** What comes of the call. */
  outcome: PromiseWithResolvers<T>;
  /** Called when the call no longer waits. */
  begin: () => void;
}

/** The calls that wait for a transaction which they share: bounded in number, each for as long as its wait budget lasts. */
export class SharedWait {
  readonly #max: number;
  #waiting = 0;

  /** `connections`: those of the pool. */
  constructor(connections: number) {
    this.#max = WAITING_PER_CONNECTION * connections;
  }

  /**
   * Puts a call in a queue and resolves to its outcome. `withdraw` takes the call out of the queue, and returns whether
   * the call was still there. Throws the error for an exhausted pool, and the signal's reason when `signal` aborts.
   */
  async wait<T>(signal: AbortSignal, join: (turn: Turn<T>) => void, withdraw: () => boolean): Promise<T> {
    signal.throwIfAborted();
    if (this.#waiting >= this.#max) throw exhausted();
    const outcome = Promise.withResolvers<T>();
    const wait = beginWait();
    const begin = () => {
      clearTimeout(timer);
      wait?.end();
      this.#waiting--;
    };
    const abandon = (error: unknown) => {
      if (withdraw()) begin();
      outcome.reject(error);
    };
    const timer = wait === undefined ? undefined : setTimeout(() => abandon(exhausted()), wait.leftMs);
    const onAbort = () => abandon(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    this.#waiting++;
    join({ outcome, begin });
    try {
      return await traced(
        "shared transaction",
        () => ({}),
        () => outcome.promise,
      );
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }
}
