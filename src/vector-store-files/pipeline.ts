import { keep } from "../api/fresh-cache.ts";
import { setTimeout as delay } from "node:timers/promises";
import { failClaim, claimFile, releaseClaim, renewClaims, sweepAttachments, type Claim } from "./claims.ts";
import type { ProjectLimits } from "../api/rates/limits.ts";
import { toServiceError } from "../postgres/errors.ts";
import { transaction } from "../postgres/transaction.ts";
import { projectOf } from "../store-id.ts";
import { countTransition } from "../storage/counts.ts";
import { traced } from "../tracing.ts";
import { beginProgress, type FileProgress, type Stage } from "./progress.ts";
import { decideRetry } from "./retry-policy.ts";
import { processFile, SupersededError, type ProcessingContext } from "./process-file.ts";

/** The logger of the pipeline, whose events belong to no request. */
export interface PipelineLog {
  info: (details: object, message: string) => void;
  warn: (details: object, message: string) => void;
  error: (details: object, message: string) => void;
}

/** Duration of a lease: after a crash of its process, a file is claimed by another one this much later. */
const LEASE_MS = 5_000;

/**
 * Interval at which leases are renewed and the queue is polled; also the delay until a cancelled file is
 * aborted.
 */
const TICK_MS = 500;

/** Projects whose last store is remembered. */
const PROJECTS_MAX = 10_000;

/** Interval at which staged chunks of ended attempts are deleted. */
const SWEEP_MS = 60_000;

/** Files that a process works on in addition to its `workers`, so that large files never hold all of them. */
export const SMALL_WORKERS = 1;
/** Maximum size of such a file. */
const SMALL_BYTES = 1_048_576;

/**
 * How often writing a file's result is tried while the database is unavailable; by then the lease has
 * expired.
 */
const ENDING_ATTEMPTS_MAX = 5;
const ENDING_PAUSE_MS = 1_000;

/** How long a shutdown waits for the leases to be released. */
const STOP_MS = 5_000;

/**
 * Processes attached files, up to `workers` at a time, and one more small file; 0 workers: none. The work queue is the table of
 * attachments, with a lease per file, so that any number of processes share the work and take over the files
 * of a crashed one.
 */
export class Pipeline {
  readonly #context: ProcessingContext;
  readonly #workers: number;
  readonly #limits: ProjectLimits;
  /** The files being processed by this process, by claim. */
  readonly #held = new Map<
    string,
    {
      project: string;
      controller: AbortController;
      ended: Promise<void>;
      isAdditional: boolean;
      progress: FileProgress;
    }
  >();
  /** The project of the last claim, and the store of the last claim of each project. */
  #afterProject = "";
  readonly #afterStores = new Map<string, string>();
  readonly #log: PipelineLog;
  readonly #timer: NodeJS.Timeout | undefined;
  #ticking: Promise<void> | undefined;
  #isWanted = false;
  #isDatabaseAway = false;
  /**
   * The sweep under way. It runs concurrently with the ticks: a long sweep must not delay the renewal of
   * leases.
   */
  #sweeping: Promise<void> | undefined;
  #sweptAt = 0;
  readonly #stopped = new AbortController();

  /** Looks for files from now on, unless there are no workers. */
  constructor(context: ProcessingContext, workers: number, limits: ProjectLimits, log: PipelineLog) {
    this.#context = context;
    this.#limits = limits;
    this.#workers = workers;
    this.#log = log;
    if (workers === 0) return;
    this.#timer = setInterval(() => this.wake(), TICK_MS);
    this.wake();
  }

  /**
   * Polls now instead of at the next tick, for new files and for cancelled ones. Concurrent calls are
   * coalesced.
   */
  wake(): void {
    if (this.#timer === undefined || this.#stopped.signal.aborted) return;
    this.#isWanted = true;
    this.#ticking ??= this.#tick();
  }

  /**
   * Aborts all work and releases the leases, so that another process continues at once. Gives up after 5 s
   * when the database does not answer; the leases then expire by themselves.
   */
  async stop(): Promise<void> {
    this.#stopped.abort(new StoppedError());
    clearInterval(this.#timer);
    const stopped = this.#abandon();
    await Promise.race([stopped, delay(STOP_MS, undefined, { ref: false })]);
    await this.#context.reader.close();
  }

  async #abandon(): Promise<void> {
    await this.#ticking;
    for (const { controller } of this.#held.values()) controller.abort(new StoppedError());
    await Promise.all(Array.from(this.#held.values(), ({ ended }) => ended));
    await this.#sweeping;
  }

  /**
   * Uses the `probe` connection, not the pool: waiting for a pooled one longer than a lease would lose the
   * files.
   */
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
    const { probe, tables } = this.#context.database;
    const asked = [...this.#held];
    const still = new Set(
      await transaction(probe, (client) =>
        renewClaims(
          client,
          tables,
          asked.map(([claim]) => claim),
          LEASE_MS,
          asked.map(([, { progress }]) => progress),
        ),
      ),
    );
    for (const [claim, { controller }] of asked)
      if (!still.has(claim)) controller.abort(new SupersededError());
  }

  async #claim(): Promise<void> {
    const { probe, tables } = this.#context.database;
    while (!this.#stopped.signal.aborted) {
      const additional = Array.from(this.#held.values()).filter((file) => file.isAdditional).length;
      const isAdditional = this.#held.size - additional >= this.#workers;
      if (isAdditional && additional >= SMALL_WORKERS) return;
      const exceptProjects = await this.#findFullProjects();
      const after = { afterProject: this.#afterProject, afterStores: this.#afterStores };
      const turn = { ...after, exceptProjects, ...(isAdditional && { bytesMax: SMALL_BYTES }) };
      const claim = await transaction(probe, (client) =>
        claimFile(client, tables, [...this.#held.keys()], LEASE_MS, turn),
      );
      if (claim === undefined) return;
      const project = projectOf(claim.vector_store_id);
      this.#noteTurn(project, claim.vector_store_id);
      const controller = new AbortController();
      const progress = beginProgress(claim.claim);
      const ended = this.#work(claim, progress, controller.signal).finally(() => {
        this.#held.delete(claim.claim);
        this.wake();
      });
      this.#held.set(claim.claim, { project, controller, ended, isAdditional, progress });
    }
  }

  #noteTurn(project: string, store: string): void {
    this.#afterProject = project;
    keep(this.#afterStores, project, store, PROJECTS_MAX);
  }

  /** The projects that have as many files in work here as their limit allows. */
  async #findFullProjects(): Promise<string[]> {
    const files = Object.entries(Object.groupBy(this.#held.values(), ({ project }) => project));
    const full = files.map(async ([project, held = []]) => {
      const { max_file_workers: max = Infinity } = await this.#limits.find(project);
      return held.length >= max ? [project] : [];
    });
    return (await Promise.all(full)).flat();
  }

  #startSweep(): void {
    const now = performance.now();
    if (this.#sweeping !== undefined || (this.#sweptAt > 0 && now - this.#sweptAt < SWEEP_MS)) return;
    this.#sweptAt = now;
    this.#sweeping = this.#sweep().finally(() => (this.#sweeping = undefined));
  }

  async #sweep(): Promise<void> {
    try {
      await sweepAttachments(this.#context.database, this.#stopped.signal);
    } catch (error) {
      if (!this.#stopped.signal.aborted)
        this.#log.warn({ err: toServiceError(error) }, "Cannot delete the staged chunks of ended attempts");
    }
  }

  async #work(claim: Claim, progress: FileProgress, signal: AbortSignal): Promise<void> {
    const startedAt = performance.now();
    const onStage = (stage: Stage) => {
      const { stage: ended, bytesRead, chunksRead } = progress;
      progress.stage = stage;
      const durationMs = Math.round(performance.now() - startedAt);
      this.#log.info(
        { ...describe(claim), ended, bytesRead, chunks: chunksRead, durationMs },
        `file ${stage}`,
      );
    };
    try {
      const chunks = await traced(
        "process file",
        () => ({ attributes: describeSpan(claim) }),
        () => processFile(this.#context, claim, { progress, onStage }, signal),
        "root",
      );
      const durationMs = Math.round(performance.now() - startedAt);
      const replaced = claim.replaces !== null && {
        replacedFileId: claim.replaces,
        chunksReused: progress.chunksReused,
      };
      this.#log.info({ ...describe(claim), ...replaced, chunks, durationMs }, "file completed");
    } catch (error) {
      if (error instanceof SupersededError || signal.reason instanceof SupersededError) return;
      for (let attempt = 1; attempt <= ENDING_ATTEMPTS_MAX; attempt++) {
        try {
          await this.#end(claim, error, signal);
          return;
        } catch (cause) {
          this.#log.warn({ ...describe(claim), err: toServiceError(cause) }, "Cannot record a file's result");
          if (signal.aborted) return;
          await delay(ENDING_PAUSE_MS);
        }
      }
    }
  }

  /** Records the result of a file that was not completed: released at shutdown, retried later, or failed. */
  async #end(claim: Claim, error: unknown, signal: AbortSignal): Promise<void> {
    const { pool, tables } = this.#context.database;
    if (signal.aborted) {
      await transaction(pool, (client) =>
        releaseClaim(client, tables, { ...claim, attempts: claim.attempts - 1 }, 0),
      );
      return;
    }
    const decision = decideRetry(error, claim);
    if (decision.kind === "again") {
      if (decision.isFault) this.#log.error({ ...describe(claim), err: error }, "Processing a file failed");
      await transaction(pool, (client) => releaseClaim(client, tables, decision.claim, decision.delayMs));
      return;
    }
    const { code, message } = decision;
    this.#log.info({ ...describe(claim), code, message }, "file failed");
    await transaction(pool, async (client) => {
      if (await failClaim(client, tables, claim.claim, decision))
        await countTransition(client, tables, claim.vector_store_id, { in_progress: -1, failed: 1 });
    });
  }
}

function describe({ file_id: fileId, vector_store_id: vectorStoreId }: Claim) {
  return { fileId, vectorStoreId };
}

function describeSpan(claim: Claim) {
  const { fileId, vectorStoreId } = describe(claim);
  const ids = { "pgquiver.file_id": fileId, "pgquiver.vector_store_id": vectorStoreId };
  return { ...ids, "pgquiver.attempt": claim.attempts };
}

/** Abort reason: the process shuts down. */
class StoppedError extends Error {
  override name = "StoppedError";
}
