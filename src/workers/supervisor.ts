import cluster from "node:cluster";
import { setTimeout as delay } from "node:timers/promises";
import { AggregatorRegistry } from "prom-client";
import { messageOf } from "../errors.ts";
import type { MetricValues } from "../wire/metrics.ts";
import { Member } from "./member.ts";
import type { Report } from "./messages.ts";

/** The logger of the supervisor. */
export interface SupervisorLog {
  info: (message: string) => void;
  warn: (message: string) => void;
  error: (message: string) => void;
}

/** Pause before a worker that died is replaced: doubled with each death, unless the worker had served for a while. */
const PAUSE_MIN_MS = 100;
const PAUSE_MAX_MS = 30_000;
const STABLE_MS = 60_000;

/**
 * Starts the processes that serve, replaces those that die, and passes on what concerns all: the end, the reload, the
 * metrics. Holds the port, and hands each connection to the next worker that is free, so that no connection is refused
 * while a worker is replaced.
 */
export class Supervisor {
  readonly #count: number;
  readonly #log: SupervisorLog;
  /** How long a worker that was told to end may take before it is killed. */
  readonly #endMs: number;
  /** The workers by number: each number has one that is to serve. */
  readonly #current = new Map<number, Member>();
  /** All workers that run, those that are about to end included. */
  readonly #alive = new Set<Member>();
  /** Counters of workers that have ended: the service's counters must not decrease. */
  #past: MetricValues = [];
  #isReloading = false;
  #isReloadWanted = false;
  readonly #stopping = new AbortController();

  constructor(count: number, endMs: number, log: SupervisorLog) {
    this.#count = count;
    this.#endMs = endMs;
    this.#log = log;
    // By default kernel and processes would race for connections, and most long-lived ones end up in one process.
    cluster.schedulingPolicy = cluster.SCHED_RR;
    // A worker finds out by itself what a terminal can show.
    cluster.setupPrimary({ silent: process.stdout.isTTY !== true });
    process.stdout.on("error", () => {});
  }

  /** The pids of the workers that serve, by number. */
  get pids(): number[] {
    return Array.from(this.#current.values(), ({ pid }) => pid);
  }

  /**
   * Starts the workers; the first alone, so that it makes the tables. Rejects with the reason when one ends before it
   * serves.
   */
  async start(): Promise<Report> {
    const first = this.#launch(1);
    const report = await first.ready;
    const others = Array.from({ length: this.#count - 1 }, (_, index) => this.#launch(index + 2));
    await Promise.all(others.map(({ ready }) => ready));
    for (const member of [first, ...others]) this.#install(member);
    return report;
  }

  /** Replaces all workers, one after the other: a new one serves before the old one takes no more connections. */
  async reload(): Promise<void> {
    this.#isReloadWanted = true;
    if (this.#isReloading) return;
    this.#isReloading = true;
    try {
      while (this.#isReloadWanted && !this.#stopping.signal.aborted) {
        this.#isReloadWanted = false;
        await this.#replaceAll();
      }
    } catch (error) {
      if (!this.#stopping.signal.aborted)
        this.#log.error(`The reload has stopped, and the workers before it go on: ${messageOf(error)}`);
    } finally {
      this.#isReloading = false;
    }
  }

  /** Ends all workers, as SIGTERM ends the service in one process. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(Array.from(this.#alive, (member) => this.#end(member, () => member.kill("SIGTERM"))));
  }

  /** Kills all workers, with their calls in flight. */
  killAll(): void {
    this.#stopping.abort();
    for (const member of this.#alive) member.kill("SIGKILL");
  }

  #launch(number: number): Member {
    const member = new Member(number, this.#count, () => this.#scrape());
    this.#alive.add(member);
    void member.ended.then(() => {
      this.#alive.delete(member);
      this.#past = addUp([this.#past, member.metrics]);
    });
    return member;
  }

  /** Makes a worker the one of its number, and has it replaced if it dies. */
  #install(member: Member): void {
    this.#current.set(member.number, member);
    void this.#watch(member);
  }

  async #watch(member: Member): Promise<void> {
    let last = member;
    for (let pauseMs = PAUSE_MIN_MS; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS)) {
      const how = await last.ended;
      const isWanted = () => this.#current.get(member.number) === last && !this.#stopping.signal.aborted;
      if (!isWanted()) return;
      if (performance.now() - last.startedAt > STABLE_MS) pauseMs = PAUSE_MIN_MS;
      const why = last.reason === undefined ? "" : `: ${last.reason}`;
      this.#log.error(
        `Worker ${last.number} (process ${last.pid}) has ended with ${how}${why}. Another starts in ${pauseMs / 1000} s`,
      );
      await delay(pauseMs, undefined, { signal: this.#stopping.signal }).catch(() => {});
      if (!isWanted()) return;
      last = this.#launch(member.number);
      this.#current.set(member.number, last);
      const { number, pid } = last;
      void last.ready.then(
        () => this.#log.info(`Worker ${number} serves again, as process ${pid}`),
        () => {},
      );
    }
  }

  async #replaceAll(): Promise<void> {
    for (let number = 1; number <= this.#count && !this.#stopping.signal.aborted; number++) {
      const next = this.#launch(number);
      await next.ready;
      const old = this.#current.get(number);
      this.#install(next);
      if (old !== undefined) await this.#end(old, () => old.retire());
    }
    this.#log.info(`Reloaded: ${this.#count} processes, ${this.pids.join(", ")}`);
  }

  /** Waits for a worker's end, and kills it when it takes too long. */
  async #end(member: Member, tell: () => void): Promise<void> {
    if (member.hasEnded) return;
    tell();
    const timer = setTimeout(() => {
      this.#log.warn(`Worker ${member.number} (process ${member.pid}) does not end, and is killed`);
      member.kill("SIGKILL");
    }, this.#endMs);
    await member.ended;
    clearTimeout(timer);
  }

  /** The metrics of all workers in Prometheus' text format. */
  async #scrape(): Promise<string> {
    const members = [...this.#alive];
    const isTold = await Promise.all(members.map((member) => member.collect()));
    // Of a worker that does not answer the counters are known; its gauges may have changed.
    const parts = members.map(({ metrics, hasEnded }, index) =>
      hasEnded ? [] : isTold[index] === true ? metrics : metrics.filter(isCumulative),
    );
    return AggregatorRegistry.aggregate([this.#past, ...parts]).metrics();
  }
}

/** Whether a metric only grows, so that what an ended process counted stays true. */
function isCumulative({ type }: MetricValues[number]): boolean {
  return ["counter", "histogram"].includes(String(type));
}

/** The sums of what only grows. */
function addUp(parts: readonly MetricValues[]): MetricValues {
  const sums = AggregatorRegistry.aggregate(parts.map((part) => part.filter(isCumulative)));
  return sums.getMetricsAsArray() as unknown as MetricValues;
}
