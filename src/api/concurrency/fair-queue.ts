/** Limits of a FairQueue. */
export interface FairQueueOptions {
  /** Maximum number of permits held at the same time. */
  permits: number;
  /** Maximum number of waiting requests; a single caller may use half of it. */
  waitingMax: number;
  /** Timeout of the wait for a permit, in milliseconds. */
  waitMsMax: number;
  /** Makes the error of a request that is refused. */
  refuse: () => Error;
}

interface Waiter {
  grant: () => void;
  refuse: (error: unknown) => void;
}

/**
 * A semaphore with fair queueing: permits are granted round robin over the callers and, within a caller,
 * round robin over its calls. So a caller or a call with many requests delays the others by one request per
 * turn, not by all of them. The queue is bounded in length and in waiting time; beyond either bound requests
 * are refused with RESOURCE_EXHAUSTED (load shedding).
 */
export class FairQueue {
  readonly #options: FairQueueOptions;
  /** Waiters by caller and call. A Map keeps the order of insertion, and the first entry is served next. */
  readonly #callers = new Map<string, Map<object, Set<Waiter>>>();
  readonly #waitingOf = new Map<string, number>();
  #permits: number;
  #waiting = 0;

  constructor(options: FairQueueOptions) {
    this.#options = options;
    this.#permits = options.permits;
  }

  /** Number of permits that nobody holds. */
  get free(): number {
    return this.#permits;
  }

  /** Current number of waiting requests. */
  get waiting(): number {
    return this.#waiting;
  }

  /**
   * Acquires a permit; disposing of the result releases the permit. Throws RESOURCE_EXHAUSTED when the queue
   * is full or the wait times out (`waitMs`, at most `waitMsMax`), and the signal's reason when the signal aborts.
   */
  async acquire(
    caller: string,
    call: object,
    signal: AbortSignal,
    waitMs = this.#options.waitMsMax,
  ): Promise<Disposable> {
    signal.throwIfAborted();
    if (this.#permits > 0) this.#permits--;
    else await this.#wait(caller, call, signal, waitMs);
    return { [Symbol.dispose]: () => this.#release() };
  }

  async #wait(caller: string, call: object, signal: AbortSignal, waitMs: number): Promise<void> {
    const { waitingMax, waitMsMax, refuse } = this.#options;
    const ofCaller = this.#waitingOf.get(caller) ?? 0;
    if (this.#waiting >= waitingMax || ofCaller >= Math.ceil(waitingMax / 2)) throw refuse();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiter: Waiter = { grant: resolve, refuse: reject };
    const leave = (error: unknown) => {
      if (this.#remove(caller, call, waiter)) reject(error);
    };
    const onAbort = () => leave(signal.reason);
    const timer = setTimeout(() => leave(refuse()), Math.min(waitMs, waitMsMax));
    signal.addEventListener("abort", onAbort);
    this.#add(caller, call, waiter);
    try {
      await promise;
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", onAbort);
    }
  }

  #add(caller: string, call: object, waiter: Waiter): void {
    const calls = this.#callers.get(caller) ?? new Map<object, Set<Waiter>>();
    this.#callers.set(caller, calls);
    const waiters = calls.get(call) ?? new Set<Waiter>();
    calls.set(call, waiters.add(waiter));
    this.#count(caller, 1);
  }

  #remove(caller: string, call: object, waiter: Waiter): boolean {
    const calls = this.#callers.get(caller);
    const waiters = calls?.get(call);
    if (waiters?.delete(waiter) !== true) return false;
    if (waiters.size === 0) calls?.delete(call);
    if (calls?.size === 0) this.#callers.delete(caller);
    this.#count(caller, -1);
    return true;
  }

  #count(caller: string, by: number): void {
    this.#waiting += by;
    const ofCaller = (this.#waitingOf.get(caller) ?? 0) + by;
    if (ofCaller === 0) this.#waitingOf.delete(caller);
    else this.#waitingOf.set(caller, ofCaller);
  }

  #release(): void {
    const [first] = this.#callers;
    if (first === undefined) {
      this.#permits++;
      return;
    }
    const [caller, calls] = first;
    const [[call, waiters]] = calls as unknown as [[object, Set<Waiter>]];
    const [waiter] = waiters as unknown as [Waiter];
    this.#remove(caller, call, waiter);
    // Round robin: the served caller, and its call, move to the end.
    if (calls.delete(call) && waiters.size > 0) calls.set(call, waiters);
    if (this.#callers.delete(caller) && calls.size > 0) this.#callers.set(caller, calls);
    waiter.grant();
  }
}
