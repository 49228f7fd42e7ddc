import { setTimeout as delay } from "node:timers/promises";
import type { Database } from "../postgres/database.ts";
import { toServiceError } from "../postgres/errors.ts";
import { asService } from "../postgres/row-security/call.ts";
import { findEnded, type BatchRow } from "./batches.ts";
import type { PipelineLog } from "./pipeline.ts";

/** Interval at which open batches are looked at. */
const INTERVAL_MS = 1_000;

/** Batches that are looked at; the oldest ones are forgotten, and end without a line. */
const BATCHES_MAX = 100;

/**
 * Writes a line to the log when a file batch has ended that a call of this process has made: batches have no end of their own
 * in the database, and any process may have worked on their last file. Costs nothing while no batch is open.
 */
export class BatchLog {
  readonly #database: Database;
  readonly #log: PipelineLog;
  readonly #draining: AbortSignal;
  readonly #open = new Map<string, BatchRow>();
  #isLooking = false;

  /** Ends without a line for the batches that are open when `draining` aborts. */
  constructor(database: Database, log: PipelineLog, draining: AbortSignal) {
    this.#database = database;
    this.#log = log;
    this.#draining = draining;
  }

  /** Waits for the end of a batch. */
  note(batch: BatchRow): void {
    this.#open.set(batch.id, batch);
    const [oldest] = this.#open.keys();
    if (this.#open.size > BATCHES_MAX && oldest !== undefined) this.#open.delete(oldest);
    if (!this.#isLooking) void asService(() => this.#look());
  }

  async #look(): Promise<void> {
    this.#isLooking = true;
    let isDatabaseAway = false;
    while (this.#open.size > 0) {
      await delay(INTERVAL_MS, undefined, { ref: false, signal: this.#draining }).catch(() => {});
      if (this.#draining.aborted) return;
      try {
        await this.#tell();
        isDatabaseAway = false;
      } catch (error) {
        if (!isDatabaseAway)
          this.#log.warn({ err: toServiceError(error) }, "Cannot look for file batches that have ended");
        isDatabaseAway = true;
      }
    }
    // In the same step as the last look at the size: a batch that is noted from now on begins another loop.
    this.#isLooking = false;
  }

  async #tell(): Promise<void> {
    const { pool, tables } = this.#database;
    for (const { batch, counts, seconds } of await findEnded(pool, tables, [...this.#open.values()])) {
      this.#open.delete(batch.id);
      const { completed, failed, cancelled } = counts;
      const ids = { batchId: batch.id, vectorStoreId: batch.vector_store_id };
      this.#log.info({ ...ids, completed, failed, cancelled, seconds }, "file batch ended");
    }
  }
}
