import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { messageOf } from "../../errors.ts";
import type { Embedder } from "../../models/embedder.ts";
import type { Database } from "../../postgres/database.ts";
import { isLockTimeout, toServiceError } from "../../postgres/errors.ts";
import { runIfFree } from "../../postgres/exclusive.ts";
import { transaction } from "../../postgres/transaction.ts";
import { JobEnded, type JobContext, type ReembeddingOptions } from "./context.ts";
import { beginAgain, copyPage, makeSecondTable } from "./copy.ts";
import { finishSecondTable } from "./finish.ts";
import { endJob, findDueJobs, findJob, postponeJob, removeOrphans, type DueJob, type Job } from "./jobs.ts";
import { removeFormer, switchStore } from "./switch.ts";

/** How often a process looks for jobs, and whether the job that it works on was cancelled. */
const POLL_MS = 5_000;
const WATCH_MS = 1_000;
/** Pause of a job whose locks are held, or whose store gets texts faster than they are embedded. */
const BUSY_MS = 2_000;
/** Pause after a failure: doubled each time, from the first to an hour. */
const RETRY_MS = 2_000;
const RETRY_MS_MAX = 3_600_000;

/** Codes of errors that the same texts and model would meet again. */
const FINAL: readonly Code[] = [Code.InvalidArgument, Code.FailedPrecondition, Code.Unimplemented];

/** The log that the worker writes to. */
interface ReembeddingLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/**
 * Works on the jobs of this process's model, one at a time. Each process has a worker; a session-level advisory lock of each
 * job keeps them apart, and what a killed one had begun another one goes on with within seconds.
 */
export class ReembeddingWorker {
  readonly #database: Database;
  readonly #embedder: Embedder;
  readonly #options: ReembeddingOptions;
  readonly #log: ReembeddingLog;
  readonly #stopped = new AbortController();
  #awake = new AbortController();
  readonly #ended: Promise<void>;

  constructor(database: Database, embedder: Embedder, options: ReembeddingOptions, log: ReembeddingLog) {
    this.#database = database;
    this.#embedder = embedder;
    this.#options = options;
    this.#log = log;
    this.#ended = this.#run();
  }

  /** Looks for jobs now. */
  wake(): void {
    this.#awake.abort();
  }

  /** Aborts the work, and resolves when it has ended. The next process goes on with the job. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#ended;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      this.#awake = new AbortController();
      const jobs = await this.#findJobs();
      for (const job of jobs) await this.#take(job);
      // What other processes work on is due all the time.
      await this.#sleep(jobs.length > 0 ? WATCH_MS : POLL_MS);
    }
  }

  async #sleep(ms: number): Promise<void> {
    const woken = AbortSignal.any([this.#stopped.signal, this.#awake.signal]);
    await delay(ms, undefined, { signal: woken }).catch(() => {});
  }

  /** The jobs that are due; none while the database cannot be reached. */
  async #findJobs(): Promise<DueJob[]> {
    const { pool, tables } = this.#database;
    const { model } = this.#embedder;
    const dimensions = this.#embedder.dimensions ?? null;
    try {
      await transaction(pool, (client) => removeOrphans(client, tables));
      return await findDueJobs(pool, tables, { model, dimensions });
    } catch (error) {
      if (!this.#stopped.signal.aborted)
        this.#log.warn({ err: error }, "Re-embeddings of stores cannot be looked for");
      return [];
    }
  }

  /** Works on a job, unless another process does. */
  async #take(job: DueJob): Promise<void> {
    const { signal } = this.#stopped;
    if (signal.aborted) return;
    const { vector_store_id: storeId } = job;
    const cancelled = new AbortController();
    const watching = this.#watch(job, cancelled);
    try {
      await runIfFree(
        this.#database,
        `re-embeddings of ${storeId}`,
        (pool, lost) =>
          this.#work(job, {
            database: this.#database,
            pool,
            embedder: this.#embedder,
            options: this.#options,
            signal: AbortSignal.any([lost, cancelled.signal]),
          }),
        signal,
      );
    } catch (error) {
      if (!signal.aborted && !cancelled.signal.aborted && !(error instanceof JobEnded))
        await this.#fail(job, error);
    } finally {
      cancelled.abort();
      await watching;
    }
  }

  /** Does the steps of a job until it has ended, or is to be tried again later. */
  async #work(due: DueJob, context: JobContext): Promise<void> {
    const { pool, tables } = this.#database;
    for (let last = ""; ;) {
      context.signal.throwIfAborted();
      const job = await findJob(pool, tables, due.vector_store_id);
      if (job?.id !== due.id || job.status !== "in_progress") return;
      if (job.phase !== last)
        this.#log.info(
          { vectorStoreId: job.vector_store_id, model: job.model },
          `re-embedding: ${job.phase}`,
        );
      last = job.phase;
      if (await takeStep(context, job)) continue;
      await transaction(pool, (client) => postponeJob(client, tables, job, BUSY_MS));
      return;
    }
  }

  /** Aborts the work on a job that was cancelled meanwhile, or whose store was deleted. */
  async #watch({ id, vector_store_id: storeId }: DueJob, cancelled: AbortController): Promise<void> {
    const { probe, tables } = this.#database;
    while (!cancelled.signal.aborted) {
      await delay(WATCH_MS, undefined, { signal: cancelled.signal }).catch(() => {});
      if (cancelled.signal.aborted) return;
      // A failed look is ignored: the next one sees the same.
      const job = await findJob(probe, tables, storeId).catch(() => "unknown" as const);
      if (job !== "unknown" && (job?.id !== id || job.status !== "in_progress")) cancelled.abort();
    }
  }

  /** Ends a job whose error would come again, or notes when it is tried again. */
  async #fail(due: DueJob, thrown: unknown): Promise<void> {
    const { pool, tables } = this.#database;
    const { vector_store_id: vectorStoreId } = due;
    const error = toServiceError(thrown);
    const message = error instanceof ConnectError ? error.rawMessage : messageOf(thrown);
    const isFinal = error instanceof ConnectError && FINAL.includes(error.code);
    try {
      await transaction(pool, async (client) => {
        if (isLockTimeout(thrown)) return postponeJob(client, tables, due, BUSY_MS);
        const job = await findJob(client, tables, vectorStoreId);
        if (job === undefined || job.id !== due.id) return;
        if (isFinal && (await endJob(client, tables, job, { status: "failed", error: message }))) return;
        const delayMs = Math.min(RETRY_MS_MAX, RETRY_MS * 2 ** Math.min(job.attempts, 20));
        await postponeJob(client, tables, due, delayMs, message);
      });
      if (!isLockTimeout(thrown))
        this.#log.warn(
          { err: thrown, vectorStoreId },
          isFinal ? "Re-embedding a store failed" : "Re-embedding a store failed; it is tried again",
        );
    } catch (failure) {
      this.#log.warn({ err: failure, vectorStoreId }, "The failure of a re-embedding was not noted");
    }
  }
}

/** Does the next step of a job, which follows from its row alone; false: it is to be tried again later. */
async function takeStep(context: JobContext, job: Job): Promise<boolean> {
  if (job.phase === "cleaning") {
    await removeFormer(context, job);
    return true;
  }
  if (job.own_table === null) await makeSecondTable(context, job);
  else if (job.is_stale) await beginAgain(context, job);
  else if (job.phase === "copying") await copyPage(context, job);
  else if (job.phase === "indexing") await finishSecondTable(context, job);
  else return switchStore(context, job);
  return true;
}
