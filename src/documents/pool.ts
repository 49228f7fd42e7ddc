import { Semaphore } from "../api/concurrency/semaphore.ts";
import { readerFailed } from "./error.ts";
import { findIsolation } from "./isolation.ts";
import { ReadingProcess } from "./process.ts";

/** Idle timeout of a process, which frees its memory. */
const IDLE_MS = 60_000;

const ENDING = "The service is ending.";

export interface PoolOptions {
  /** Maximum number of processes. */
  workers: number;
  /** Maximum resident memory of a process. */
  memoryBytes: number;
}

/** A pool of reading processes, started on demand. A process reads one file at a time. */
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

  /**
   * Checks out a process; waits while all are busy. Throws the signal's reason, or a DocumentError after
   * `close`. The caller must return the process with `give`.
   */
  async take(signal: AbortSignal): Promise<ReadingProcess> {
    if (this.#isClosed) throw readerFailed(ENDING);
    const place = await this.#places.acquire(signal);
    try {
      if (this.#isClosed) throw readerFailed(ENDING);
      const process = this.#takeIdle() ?? (await this.#start());
      this.#busy.set(process, place);
      return process;
    } catch (error) {
      place[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Returns a process to the pool. A process that is still busy with its file, or has grown too large, is
   * killed.
   */
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

  /** Kills all processes and waits until they have exited. Reads in progress fail with `server_error`. */
  async close(): Promise<void> {
    this.#isClosed = true;
    this.#places.rejectWaiting(readerFailed(ENDING));
    const processes = [...this.#busy.keys()];
    for (let idle = this.#takeIdle(); idle !== undefined; idle = this.#takeIdle()) processes.push(idle);
    for (const process of processes) process.kill(readerFailed(ENDING));
    await Promise.all(processes.map(({ ended }) => ended));
  }

  async #start(): Promise<ReadingProcess> {
    const isolation = await findIsolation();
    if (this.#isClosed) throw readerFailed(ENDING);
    return new ReadingProcess(this.#options.memoryBytes, isolation);
  }

  /** Removes and returns the process that has been idle the longest. */
  #takeIdle(): ReadingProcess | undefined {
    for (const [process, timer] of this.#idle) {
      clearTimeout(timer);
      this.#idle.delete(process);
      if (process.isReusable) return process;
    }
    return undefined;
  }
}
