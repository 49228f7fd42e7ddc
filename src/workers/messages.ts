import type { MetricValues } from "../wire/metrics.ts";

/** What a worker reports once it serves: rows of the start's table, and warnings about the settings. */
export interface Report {
  table: Record<string, string>;
  advice: readonly string[];
}

/** What a worker tells its supervisor. */
export type FromWorker =
  | ({ kind: "ready" } & Report)
  /** Why it ends by itself: the message of a fatal error. */
  | { kind: "failed"; reason: string }
  /** A client wants the metrics of all workers. */
  | { kind: "scrape"; id: number }
  | { kind: "metrics"; id: number; metrics: MetricValues }
  /** The metrics at its end. */
  | { kind: "last"; metrics: MetricValues };

/** What the supervisor tells a worker. */
export type ToWorker =
  | { kind: "retire" }
  | { kind: "collect"; id: number }
  | { kind: "scraped"; id: number; text: string };

/** The environment variable with the number of a worker; only the supervisor sets it. */
export const WORKER_NUMBER = "PGQUIVER_WORKER_NUMBER";
