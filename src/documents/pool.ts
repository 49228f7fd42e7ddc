import { readerFailed } from "./error.ts";
import { ReadingProcess } from "./process.ts";

/** After this time without a file a process is ended. */
const IDLE_MS = 60_000;

const ENDING = "The service is ending.";

export interface PoolOptions {
  /** Processes at most. */
  workers: number;
  /** Memory of each, and the time it may work on one file. */
  memoryBytes: number;
  timeoutMs: number;
}

/** Reading processes, each with one file at a time, started when there are files to read. */
export class ProcessPool {
  readonly #options: PoolOptions;
  readonly #busy = new Set<ReadingProcess>();
  readonly #idle = new Map<ReadingProcess, NodeJS.Timeout>();
  /** Those who wait for a place, in order. */
  readonly #waiting = new Set<PromiseWithResolvers<void>>();
  #placesFree: number;
  #isClosed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#placesFree = options.workers;
  }

  /** A process of one's own until it is given back. Throws the signal's reason, or a DocumentError after `close`. */
  async take(signal: AbortSignal): Promise<ReadingProcess> {
    signal.throwIfAborted();
    if (this.#isClosed) throw readerFailed(ENDING);
    if (this.#placesFree > 0) this.#placesFree--;
    else await this.#waitForPlace(signal);
    try {
      if (this.#isClosed) throw readerFailed(ENDING);
      const { memoryBytes, timeoutMs } = this.#options;
      const process = this.#takeIdle() ?? new ReadingProcess(memoryBytes, timeoutMs);
      this.#busy.add(process);
      return process;
    } catch (error) {
      this.#freePlace();
      throw error;
    }
  }

  /** Takes a process back: one that did not end its file is ended itself. */
  give(process: ReadingProcess): void {
    this.#busy.delete(process);
    if (process.isReusable && !this.#isClosed) {
      this.#idle.set(process, setTimeout(() => this.#takeIdle()?.kill(), IDLE_MS).unref());
    } else {
      process.kill();
    }
    this.#freePlace();
  }

  #freePlace(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#placesFree++;
    } else {
      this.#waiting.delete(next);
      next.resolve();
    }
  }

  /** Ends all processes, and waits until they are gone. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const place of this.#waiting) place.reject(readerFailed(ENDING));
    this.#waiting.clear();
    const processes = [...this.#busy];
    for (let idle = this.#takeIdle(); idle !== undefined; idle = this.#takeIdle()) processes.push(idle);
    for (const process of processes) process.kill(readerFailed(ENDING));
    await Promise.all(processes.map(({ ended }) => ended));
  }

  /** The process that has been idle for longest. */
  #takeIdle(): ReadingProcess | undefined {
    for (const [process, timer] of this.#idle) {
      clearTimeout(timer);
      this.#idle.delete(process);
      if (process.isReusable) return process;
    }
    return undefined;
  }

  async #waitForPlace(signal: AbortSignal): Promise<void> {
    const place = Promise.withResolvers<void>();
    const leave = () => {
      if (this.#waiting.delete(place)) place.reject(signal.reason);
    };
    this.#waiting.add(place);
    signal.addEventListener("abort", leave);
    try {
      await place.promise;
    } finally {
      signal.removeEventListener("abort", leave);
    }
  }
}
