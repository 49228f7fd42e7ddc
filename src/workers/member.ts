import cluster, { type Worker } from "node:cluster";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import type { MetricValues } from "../wire/metrics.ts";
import { forwardLines } from "./lines.ts";
import { WORKER_NUMBER, type FromWorker, type Report, type ToWorker } from "./messages.ts";

/** How long a worker may take to tell its metrics; the totals of the database alone may take 2 s. */
const COLLECT_MS = 4_000;

/** How long the last lines of a worker are waited for, whose output a process of its own may hold open. */
const LAST_WORDS_MS = 500;

/** One process of a service with several. */
export class Member {
  readonly number: number;
  readonly startedAt = performance.now();
  /** Resolves once the worker serves; rejects with the reason if it ends before. */
  readonly ready: Promise<Report>;
  /** Resolves when the process has ended, with how: an exit code or the name of a signal. */
  readonly ended: Promise<number | string>;
  /** Why the worker says that it ends by itself. */
  reason: string | undefined;
  /** The metrics that the worker told last. */
  metrics: MetricValues = [];
  hasEnded = false;
  readonly #worker: Worker;
  readonly #asked = new Map<number, () => void>();
  #questions = 0;

  /** Starts worker `number`. `onScrape` is called when a client of the worker wants the metrics of all. */
  constructor(number: number, count: number, onScrape: () => Promise<string>) {
    this.number = number;
    this.#worker = cluster.fork({ [WORKER_NUMBER]: String(number), WORKERS: String(count) });
    const lost = closeUntaken(this.#worker);
    const { process: child } = this.#worker;
    if (child.stdout !== null) forwardLines(child.stdout, process.stdout);
    if (child.stderr !== null) forwardLines(child.stderr, process.stderr);
    const said = once(child, "close");
    const { promise: ready, resolve, reject } = Promise.withResolvers<Report>();
    this.ready = ready;
    ready.catch(() => {});
    this.#worker.on("error", () => {});
    this.#worker.on("message", (message: FromWorker) => {
      if (message.kind === "ready") resolve(message);
      else if (message.kind === "failed") this.reason = message.reason;
      else if (message.kind === "scrape")
        void onScrape().then(
          (text) => this.#tell({ kind: "scraped", id: message.id, text }),
          // The worker waits for a while, and then answers with its own metrics.
          () => {},
        );
      else {
        this.metrics = message.metrics;
        if (message.kind === "metrics") this.#asked.get(message.id)?.();
      }
    });
    this.ended = once(this.#worker, "exit").then(async ([code, signal]: unknown[]) => {
      // What it said last comes before what is said of its end.
      await Promise.race([said, delay(LAST_WORDS_MS, undefined, { ref: false })]);
      this.hasEnded = true;
      lost();
      const how = (signal ?? code) as number | string;
      reject(new Error(this.reason ?? `Worker ${number} ended with ${how} before it served.`));
      return how;
    });
  }

  get pid(): number {
    return this.#worker.process.pid ?? 0;
  }

  /** Makes the worker tell its metrics, unless it does not answer in time. Resolves with whether it did. */
  async collect(): Promise<boolean> {
    const id = this.#questions++;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#asked.set(id, () => resolve(true));
    this.#tell({ kind: "collect", id });
    const isTold = await Promise.race([
      promise,
      delay(COLLECT_MS, false, { ref: false }),
      this.ended.then(() => false),
    ]);
    this.#asked.delete(id);
    return isTold;
  }

  /** Tells the worker to take no more connections, and to end when its calls have. */
  retire(): void {
    this.#tell({ kind: "retire" });
  }

  kill(signal: NodeJS.Signals): void {
    this.#worker.process.kill(signal);
  }

  #tell(message: ToWorker): void {
    // A worker that has ended needs no message: `ended` says so.
    if (this.#worker.isConnected()) this.#worker.send(message, () => {});
  }
}

/**
 * Returns a function that closes the connection that was last handed to `worker`. Node keeps a connection that a worker
 * did not take, because the worker was blocked and then killed, open for ever, and the client without an answer. One
 * connection at a time is handed to a worker; to close one that was taken closes this process's copy only.
 */
function closeUntaken({ process: child }: Worker): () => void {
  let last: { close?: () => void } | undefined;
  const send = child.send.bind(child) as (...given: unknown[]) => boolean;
  child.send = (...given: unknown[]) => {
    const [, handle] = given;
    if (typeof handle === "object" && handle !== null) last = handle;
    return send(...given);
  };
  return () => last?.close?.();
}
