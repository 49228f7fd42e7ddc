import { Semaphore } from "../api/concurrency.ts";
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
  readonly #busy = new Map<ReadingProcess, Disposable>();
  readonly #idle = new Map<ReadingProcess, NodeJS.Timeout>();
  readonly #places: Semaphore;
  #isClosed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
    this.#places = new Semaphore(options.workers);
  }

  /** A process of one's own until it is given back. Throws the signal's reason, or a DocumentError after `close`. */
  async take(signal: AbortSignal): Promise<ReadingProcess> {
    if (this.#isClosed) throw readerFailed(ENDING);
    const place = await this.#places.acquire(signal);
    try {
      if (this.#isClosed) throw readerFailed(ENDING);
      const { memoryBytes, timeoutMs } = this.#options;
      const process = this.#takeIdle() ?? new ReadingProcess(memoryBytes, timeoutMs);
      this.#busy.set(process, place);
      return process;
    } catch (error) {
      place[Symbol.dispose]();
      throw error;
    }
  }

  /** Takes a process back: one that did not end its file is ended itself. */
  give(process: ReadingProcess): void {
    const place = this.#busy.get(process);
    this.#busy.delete(process);
    if (process.isReusable && !this.#isClosed) {
      this.#idle.set(process, setTimeout(() => this.#takeIdle()?.kill(), IDLE_MS).unref());
    } else {
      process.kill();
    }
    place?.[Symbol.dispose]();
  }

  /** Ends all processes, and waits until they are gone. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#places.rejectWaiting(readerFailed(ENDING));
    const processes = [...this.#busy.keys()];
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
}
