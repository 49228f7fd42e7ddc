import type { Points } from "../support/points.ts";
import type { Report } from "../support/report.ts";
import { makeRow, type Peer, type Row } from "./peer.ts";
import type { Line } from "./summary.ts";

/** Requests in flight, where a row of the table does not say otherwise. */
export const CONCURRENCY = 8;
/** Number of different queries. */
export const QUERIES = 200;
/** Number of the first query point, beyond the numbers of all rows: no query is itself a row. */
const FIRST_QUERY = 10_000_000;

/** What is done to all contenders, and where the results go. */
export interface Workload {
  /** The rows that are loaded. */
  rows: readonly Row[];
  rounds: number;
  /** About how long a contender's round takes. */
  seconds: number;
  report: Report;
  /** The lines of the summary so far. */
  lines: Line[];
  /** Query n, modulo their number. */
  query: (index: number) => Float32Array;
  /** Rows that no collection has yet. */
  takeRows: (count: number) => Row[];
}

/** A contender: a server with one of its collections; `Needed` is what is done with it. */
export interface Subject<Needed extends keyof Peer = keyof Peer> {
  name: string;
  peer: Pick<Peer, Needed | "cpuMs">;
  collection: string;
}

/** A contender that is searched. */
export type Searched = Subject<"setEf" | "search">;

/** What the bound of a service in Node does. */
export type Bounded = "setEf" | "search" | "insert" | "prepareLoad" | "delete" | "searchTenant";

/** Generates rows and queries in advance, so that generating them is not measured. */
export function createWorkload(
  points: Points,
  plan: Pick<Workload, "rounds" | "seconds" | "report"> & { rowCount: number },
): Workload {
  const queries = Array.from({ length: QUERIES }, (_, index) => points.at(FIRST_QUERY + index));
  let next = plan.rowCount;
  return {
    ...plan,
    rows: Array.from({ length: plan.rowCount }, (_, number) => makeRow(points, number)),
    lines: [],
    query: (index) => queries[index % QUERIES] as Float32Array,
    takeRows: (count) => Array.from({ length: count }, () => makeRow(points, next++)),
  };
}
