import cluster from "node:cluster";
import { setTimeout as delay } from "node:timers/promises";
import type { MetricValues } from "../wire/metrics.ts";
import { WORKER_NUMBER, type FromWorker, type Report, type ToWorker } from "./messages.ts";

/** A worker's connection to its supervisor. */
export interface Link {
  /** The worker's number, from 1. */
  number: number;
  /** Says that this worker serves. */
  ready(report: Report): void;
  /** Says why this worker ends; resolves when the supervisor has been told. */
  fail(reason: string): Promise<void>;
  /** Answers the supervisor's questions for this worker's metrics. */
  answer(collect: () => Promise<MetricValues>): void;
  /** Gets the metrics of all workers; undefined when the supervisor does not answer. */
  readWhole: () => Promise<string | undefined>;
  /** Leaves this worker's metrics to the supervisor, and ends the connection. */
  close(metrics: MetricValues | undefined): Promise<void>;
}

/** What a worker does on orders of its supervisor. */
export interface Orders {
  /** Another worker has taken this one's place. */
  retire: () => void;
  /** The supervisor has ended, and with it the port. */
  orphaned: () => void;
}

/** How long a scrape waits for the supervisor, which waits for all workers. */
const SCRAPE_MS = 6_000;
/** How long a last message to the supervisor may take. */
const LAST_MS = 1_000;

/** Connects a worker to its supervisor; undefined in a process that is no worker. */
export function openLink({ retire, orphaned }: Orders): Link | undefined {
  const { worker } = cluster;
  if (worker === undefined) return undefined;
  // Otherwise Node ends the worker at once when the supervisor is gone, with the calls in flight.
  worker.exitedAfterDisconnect = true;
  const scrapes = new Map<number, (text: string) => void>();
  let collect: (() => Promise<MetricValues>) | undefined;
  let scrapesSoFar = 0;
  const tell = async (message: FromWorker): Promise<void> => {
    if (!process.connected) return;
    await new Promise<void>((resolve) => process.send?.(message, undefined, undefined, () => resolve()));
  };
  const told = (message: FromWorker) =>
    Promise.race([tell(message), delay(LAST_MS, undefined, { ref: false })]);
  process.on("message", (message: ToWorker) => {
    if (message.kind === "retire") retire();
    else if (message.kind === "scraped") scrapes.get(message.id)?.(message.text);
    else
      void collect?.().then(
        (metrics) => tell({ kind: "metrics", id: message.id, metrics }),
        // The supervisor waits for a while, and then takes the counters of the last time.
        () => {},
      );
  });
  process.once("disconnect", orphaned);
  // Sent to a whole process group, it is the supervisor's to obey.
  process.on("SIGHUP", () => {});
  return {
    number: Number(process.env[WORKER_NUMBER]),
    ready: (report) => void tell({ kind: "ready", ...report }),
    fail: (reason) => told({ kind: "failed", reason }),
    answer: (read) => (collect = read),
    async readWhole() {
      const id = scrapesSoFar++;
      const { promise, resolve } = Promise.withResolvers<string>();
      scrapes.set(id, resolve);
      await tell({ kind: "scrape", id });
      const text = await Promise.race([promise, delay(SCRAPE_MS, undefined, { ref: false })]);
      scrapes.delete(id);
      return text;
    },
    async close(metrics) {
      if (metrics !== undefined) await told({ kind: "last", metrics });
      process.off("disconnect", orphaned);
      if (process.connected) process.disconnect();
    },
  };
}
