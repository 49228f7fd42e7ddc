/** Bounds how many do something at the same time; those beyond wait for a permit in the order they came. */
export class Semaphore {
  #permits: number;
  readonly #waiting = new Set<PromiseWithResolvers<void>>();

  constructor(permits: number) {
    this.#permits = permits;
  }

  /** Takes a permit and returns what gives the permit back. Rejects with the signal's reason while it waits. */
  async acquire(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    if (this.#permits > 0) this.#permits--;
    else await this.#wait(signal);
    return { [Symbol.dispose]: () => this.#release() };
  }

  /** Rejects all who wait, with `error`. */
  rejectWaiting(error: Error): void {
    for (const { reject } of this.#waiting) reject(error);
    this.#waiting.clear();
  }

  async #wait(signal: AbortSignal): Promise<void> {
    const turn = Promise.withResolvers<void>();
    // Leaves the queue at once: a permit handed to a waiter that has given up would be lost.
    const leave = () => {
      if (this.#waiting.delete(turn)) turn.reject(signal.reason);
    };
    this.#waiting.add(turn);
    signal.addEventListener("abort", leave);
    try {
      await turn.promise;
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }

  #release(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#permits++;
    } else {
      this.#waiting.delete(next);
      next.resolve();
    }
  }
}

/**
 * Runs `work` on every item, on `concurrencyMax` at a time, and resolves to the results in the order of the items.
 * When one fails, no more are begun and the signal of those under way aborts. Rejects once all of them have ended: with
 * the caller's reason when `signal` is aborted, else with the first error.
 */
export async function mapConcurrently<Item, Result>(
  items: readonly Item[],
  concurrencyMax: number,
  work: (item: Item, signal: AbortSignal) => Promise<Result>,
  signal: AbortSignal,
): Promise<Result[]> {
  signal.throwIfAborted();
  const failure = new AbortController();
  // A request with one item, which nearly all are, needs no second signal.
  const either = items.length === 1 ? signal : AbortSignal.any([signal, failure.signal]);
  const results: Result[] = [];
  const remaining = items.entries();
  const run = async () => {
    for (const [index, item] of remaining) {
      if (either.aborted) return;
      results[index] = await work(item, either);
    }
  };
  const runs = Array.from({ length: Math.min(concurrencyMax, items.length) }, () =>
    run().catch((error: unknown) => failure.abort(error)),
  );
  await Promise.all(runs);
  signal.throwIfAborted();
  failure.signal.throwIfAborted();
  return results;
}
