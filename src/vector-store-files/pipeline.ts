import { setTimeout as delay } from "node:timers/promises";
import { failClaim, claimFile, releaseClaim, renewClaims, sweepAttachments, type Claim } from "./claims.ts";
import { toServiceError } from "../postgres/errors.ts";
import { transaction } from "../postgres/transaction.ts";
import { recordTransition } from "../storage/counts.ts";
import { judge } from "./retry-policy.ts";
import { processFile, SupersededError, type Workshop } from "./process-file.ts";

/** Where the pipeline reports what nobody else sees. */
export interface PipelineLog {
  info: (details: object, message: string) => void;
  warn: (details: object, message: string) => void;
  error: (details: object, message: string) => void;
}

/** How long a file stays with a process that is not heard of any more. */
const LEASE_MS = 5_000;

/** How often leases are renewed and the queue is looked at, and so how soon a cancelled file is let go. */
const TICK_MS = 500;

/** How often what attempts have left behind is removed. */
const SWEEP_MS = 60_000;

/** How often an ending is written again when the database is away; then the lease has ended anyway. */
const ENDING_ATTEMPTS_MAX = 5;
const ENDING_PAUSE_MS = 1_000;

/** How long giving back the files may take when the process ends. */
const STOP_MS = 5_000;

/**
 * Processes attached files, up to `workers` at a time. Which file is whose stands in the database, so that any number
 * of processes share the work, and take over from each other.
 */
export class Pipeline {
  readonly #workshop: Workshop;
  readonly #workers: number;
  /** The files being processed, by claim. */
  readonly #held = new Map<string, { controller: AbortController; ended: Promise<void> }>();
  readonly #log: PipelineLog;
  readonly #timer: NodeJS.Timeout | undefined;
  #ticking: Promise<void> | undefined;
  #isWanted = false;
  #isDatabaseAway = false;
  /** A sweep under way, beside the ticks: leases are renewed however long it takes. */
  #sweeping: Promise<void> | undefined;
  #sweptAt = 0;
  readonly #stopped = new AbortController();

  /** Looks for files from now on, unless there are no workers. */
  constructor(workshop: Workshop, workers: number, log: PipelineLog) {
    this.#workshop = workshop;
    this.#workers = workers;
    this.#log = log;
    if (workers === 0) return;
    this.#timer = setInterval(() => this.wake(), TICK_MS);
    this.wake();
  }

  /** Looks at once whether there are files to process, or to let go. */
  wake(): void {
    if (this.#timer === undefined || this.#stopped.signal.aborted) return;
    this.#isWanted = true;
    this.#ticking ??= this.#tick();
  }

  /** Ends all work and gives the files back, so that another process goes on at once; a database that is away is not waited for. */
  async stop(): Promise<void> {
    this.#stopped.abort(new StoppedError());
    clearInterval(this.#timer);
    const stopped = this.#abandon();
    await Promise.race([stopped, delay(STOP_MS, undefined, { ref: false })]);
    await this.#workshop.reader.close();
  }

  async #abandon(): Promise<void> {
    await this.#ticking;
    for (const { controller } of this.#held.values()) controller.abort(new StoppedError());
    await Promise.all(Array.from(this.#held.values(), ({ ended }) => ended));
    await this.#sweeping;
  }

  /** Waits for no connection of the pool: one that is busy for longer than a lease would cost the files. */
  async #tick(): Promise<void> {
    while (this.#isWanted && !this.#stopped.signal.aborted) {
      this.#isWanted = false;
      try {
        await this.#renew();
        await this.#claim();
        this.#startSweep();
        this.#isDatabaseAway = false;
      } catch (error) {
        if (!this.#isDatabaseAway)
          this.#log.warn({ err: toServiceError(error) }, "Cannot look for files to process");
        this.#isDatabaseAway = true;
      }
    }
    this.#ticking = undefined;
  }

  async #renew(): Promise<void> {
    if (this.#held.size === 0) return;
    const { probe, tables } = this.#workshop.database;
    const asked = [...this.#held];
    const still = new Set(
      await renewClaims(
        probe,
        tables,
        asked.map(([claim]) => claim),
        LEASE_MS,
      ),
    );
    for (const [claim, { controller }] of asked)
      if (!still.has(claim)) controller.abort(new SupersededError());
  }

  async #claim(): Promise<void> {
    const { probe, tables } = this.#workshop.database;
    while (this.#held.size < this.#workers && !this.#stopped.signal.aborted) {
      const claim = await claimFile(probe, tables, [...this.#held.keys()], LEASE_MS);
      if (claim === undefined) return;
      const controller = new AbortController();
      const ended = this.#work(claim, controller.signal).finally(() => {
        this.#held.delete(claim.claim);
        this.wake();
      });
      this.#held.set(claim.claim, { controller, ended });
    }
  }

  #startSweep(): void {
    const now = performance.now();
    if (this.#sweeping !== undefined || (this.#sweptAt > 0 && now - this.#sweptAt < SWEEP_MS)) return;
    this.#sweptAt = now;
    this.#sweeping = this.#sweep().finally(() => (this.#sweeping = undefined));
  }

  async #sweep(): Promise<void> {
    try {
      await sweepAttachments(this.#workshop.database, this.#stopped.signal);
    } catch (error) {
      if (!this.#stopped.signal.aborted)
        this.#log.warn({ err: toServiceError(error) }, "Cannot remove what attempts have left behind");
    }
  }

  async #work(claim: Claim, signal: AbortSignal): Promise<void> {
    const startedAt = performance.now();
    try {
      const chunks = await processFile(this.#workshop, claim, signal);
      const durationMs = Math.round(performance.now() - startedAt);
      this.#log.info({ ...describe(claim), chunks, durationMs }, "file completed");
    } catch (error) {
      if (error instanceof SupersededError || signal.reason instanceof SupersededError) return;
      for (let attempt = 1; attempt <= ENDING_ATTEMPTS_MAX; attempt++) {
        try {
          await this.#end(claim, error, signal);
          return;
        } catch (cause) {
          this.#log.warn({ ...describe(claim), err: toServiceError(cause) }, "Cannot write how a file ended");
          if (signal.aborted) return;
          await delay(ENDING_PAUSE_MS);
        }
      }
    }
  }

  /** Writes what becomes of a file that was not completed. */
  async #end(claim: Claim, error: unknown, signal: AbortSignal): Promise<void> {
    const { pool, tables } = this.#workshop.database;
    if (signal.aborted) {
      await releaseClaim(pool, tables, { ...claim, attempts: claim.attempts - 1 }, 0);
      return;
    }
    const verdict = judge(error, claim);
    if (verdict.kind === "again") {
      if (verdict.isFault) this.#log.error({ ...describe(claim), err: error }, "Processing a file failed");
      await releaseClaim(pool, tables, verdict.claim, verdict.delayMs);
      return;
    }
    const { code, message } = verdict;
    this.#log.info({ ...describe(claim), code, message }, "file failed");
    await transaction(pool, async (client) => {
      if (await failClaim(client, tables, claim.claim, verdict))
        await recordTransition(client, tables, claim.vector_store_id, { in_progress: -1, failed: 1 });
    });
  }
}

function describe({ file_id: fileId, vector_store_id: vectorStoreId }: Claim) {
  return { fileId, vectorStoreId };
}

/** The process ends. */
class StoppedError extends Error {
  override name = "StoppedError";
}
