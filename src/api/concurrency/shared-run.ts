/**
 * One run of some work for all callers who ask while the work is running, so that callers cannot multiply
 * what is costly. The work is cancelled when the last of its callers has gone.
 */
export class SharedRun<T> {
  readonly #work: (signal: AbortSignal) => Promise<T>;
  #running: { result: Promise<T>; controller: AbortController; callers: number } | undefined;

  constructor(work: (signal: AbortSignal) => Promise<T>) {
    this.#work = work;
  }

  /** The result of the run in progress, or of a new one. Throws the signal's reason when `signal` aborts. */
  async join(signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    const run = (this.#running ??= this.#start());
    run.callers++;
    const gone = Promise.withResolvers<never>();
    const leave = () => gone.reject(signal.reason);
    signal.addEventListener("abort", leave);
    try {
      return await Promise.race([run.result, gone.promise]);
    } finally {
      signal.removeEventListener("abort", leave);
      if (--run.callers === 0) {
        run.controller.abort();
        if (this.#running === run) this.#running = undefined;
      }
    }
  }

  #start() {
    const controller = new AbortController();
    const run = { result: this.#work(controller.signal), controller, callers: 0 };
    const end = () => {
      if (this.#running === run) this.#running = undefined;
    };
    run.result.then(end, end);
    return run;
  }
}
