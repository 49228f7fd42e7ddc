import { messageOf } from "../errors.ts";
import type { Buckets } from "../files/buckets.ts";
import type { Database } from "../postgres/database.ts";
import { transaction } from "../postgres/transaction.ts";
import { eraseStep } from "./erase.ts";
import { postponeErasure } from "./erasures.ts";

/** How often a process looks for erasures, and the pause after a failed step. */
const POLL_MS = 5_000;
const RETRY_MS = 5_000;

/** The log that the worker writes to. */
interface ErasureLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/**
 * Erases the projects whose erasure was requested, step by step. Each process has a worker; the lock of an erasure's row
 * keeps them apart, and what a killed one had begun another one takes over within seconds.
 */
export class ErasureWorker {
  readonly #database: Database;
  readonly #buckets: Buckets;
  readonly #log: ErasureLog;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #isAsked = false;
  #isStopped = false;

  constructor(database: Database, buckets: Buckets, log: ErasureLog) {
    this.#database = database;
    this.#buckets = buckets;
    this.#log = log;
    this.#sleep();
  }

  /** Looks for erasures now. */
  wake(): void {
    if (this.#isStopped) return;
    this.#isAsked = true;
    clearTimeout(this.#timer);
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
      this.#sleep();
    });
  }

  /** Ends the work after the current step. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  #sleep(): void {
    if (!this.#isStopped) this.#timer = setTimeout(() => this.wake(), POLL_MS).unref();
  }

  async #run(): Promise<void> {
    while (!this.#isStopped && this.#isAsked) {
      this.#isAsked = false;
      let project: string | undefined;
      try {
        const step = await eraseStep(this.#database, this.#buckets, (claimed) => (project = claimed));
        this.#isAsked ||= step?.isLast === false;
        if (step?.isLast === true)
          this.#log.info({ project }, "Nothing of a project is left, or it is looked at again");
      } catch (error) {
        this.#log.warn({ err: error, project }, "Erasing a project failed; it is tried again");
        if (project !== undefined) await this.#postpone(project, messageOf(error)).catch(() => {});
      }
    }
  }

  async #postpone(project: string, message: string): Promise<void> {
    const { pool, tables } = this.#database;
    await transaction(pool, (client) => postponeErasure(client, tables, project, message, RETRY_MS));
  }
}
