/** A counting semaphore that grants permits in FIFO order. */
export class Semaphore {
  #permits: number;
  readonly #waiting = new Set<PromiseWithResolvers<void>>();

  constructor(permits: number) {
    this.#permits = permits;
  }

  /**
   * Waits for a permit; disposing of the result returns the permit. Throws the signal's reason when it aborts
   * first.
   */
  async acquire(signal: AbortSignal): Promise<Disposable> {
    signal.throwIfAborted();
    if (this.#permits > 0) this.#permits--;
    else await this.#wait(signal);
    return { [Symbol.dispose]: () => this.#release() };
  }

  /** Rejects all pending `acquire` calls with `error`. */
  rejectWaiting(error: Error): void {
    for (const { reject } of this.#waiting) reject(error);
    this.#waiting.clear();
  }

  async #wait(signal: AbortSignal): Promise<void> {
    const turn = Promise.withResolvers<void>();
    // Leave the queue on abort: a permit granted to an aborted waiter would never be returned.
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
 * Runs `work` on every item, at most `concurrencyMax` at a time, and resolves to the results in the order of
 * the items. After the first failure no further work starts, and the signal given to the running work aborts.
 * Rejects when all running work has settled: with the reason of `signal` if aborted, else with the first
 * error.
 */
export async function mapConcurrently<Item, Result>(
  items: readonly Item[],
  concurrencyMax: number,
  work: (item: Item, signal: AbortSignal) => Promise<Result>,
  signal: AbortSignal,
): Promise<Result[]> {
  signal.throwIfAborted();
  const failure = new AbortController();
  // Fast path for a single item, the usual case: no second signal is needed.
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
