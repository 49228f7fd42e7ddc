import type { DescMethod } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import type { FastifyInstance } from "fastify";
import { Scope } from "../../gen/pgquiver/v1/options_pb.ts";
import {
  collectDefaultMetrics,
  Counter,
  Gauge,
  Histogram,
  Registry,
  type MetricObjectWithValues,
  type MetricValue,
} from "prom-client";

/**
 * Observes calls: called at the beginning of a call; the returned function is called at the end, with the
 * duration and, for a failed call, the error's code.
 */
export type ObserveCall = (method: DescMethod, protocol: string) => (durationMs: number, code?: Code) => void;

/** The value of a gauge, or its values by the value of a label; undefined: unknown. */
export type Reading = number | Record<string, number> | undefined;

/**
 * How the readings of several workers are combined: `sum` of what each has; `first`: what the database says is the same
 * for all; `min`, `max`: the worst of them.
 */
export type Across = "sum" | "first" | "min" | "max";

/** The values of metrics, to be sent to another process. */
export type MetricValues = MetricObjectWithValues<MetricValue<string>>[];

/** Returns the metrics of all workers in Prometheus' text format; undefined: this process has to speak for itself. */
export type ReadWhole = () => Promise<string | undefined>;

/** The metrics of a service, in Prometheus' data model. */
export interface Metrics {
  observeCall: ObserveCall;
  /** Adds a counter; the returned function increments it, by 1 unless a number is given. */
  addCounter(name: string, help: string): (count?: number) => void;
  /** Adds a counter by a label; the returned function increments it for a value, of which there must be few. */
  addCounterBy(name: string, help: string, label: string): (value: string) => void;
  /**
   * Adds a histogram in seconds, with buckets from 1 ms to 10 minutes; the returned function takes
   * milliseconds.
   */
  addDurations(name: string, help: string): (durationMs: number) => void;
  /**
   * Adds a gauge that is read at every scrape. If `read` fails or returns undefined, that scrape has no
   * value. Readings by label require the label's name; its values must be few, because each is a time series.
   */
  addGauge(
    name: string,
    help: string,
    read: () => Reading | Promise<Reading>,
    options?: { label?: string; across?: Across },
  ): void;
  /** The metrics of this process. */
  collect: () => Promise<MetricValues>;
  /** All metrics of the service in Prometheus' text format. */
  expose(): Promise<string>;
}

/** Upper bounds of the buckets of durations, in seconds. */
const DURATION_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600];

/**
 * Sampling interval of the event loop delay; prom-client's default of 10 ms wakes an idle process 100 times a
 * second.
 */
const LOOP_SAMPLE_MS = 50;

let ofProcess: Registry | undefined;

/**
 * The metrics of the process and of Node: collected once per process, even if several services run in it
 * (tests).
 */
function processRegistry(): Registry {
  if (ofProcess === undefined) {
    ofProcess = new Registry();
    collectDefaultMetrics({ register: ofProcess, eventLoopMonitoringPrecision: LOOP_SAMPLE_MS });
  }
  return ofProcess;
}

/**
 * Creates the metrics of a service, those of calls included. `readWhole` is given where the service has several
 * workers.
 */
export function createMetrics(readWhole: ReadWhole = async () => undefined): Metrics {
  const registry = new Registry();
  const registers = [registry];
  return {
    observeCall: countCalls(registry),
    addCounter(name, help) {
      const counter = new Counter({ name, help, registers });
      return (count = 1) => counter.inc(count);
    },
    addCounterBy(name, help, label) {
      const counter = new Counter({ name, help, registers, labelNames: [label] });
      return (value) => counter.inc({ [label]: value });
    },
    addDurations(name, help) {
      const histogram = new Histogram({ name, help, registers, buckets: DURATION_BUCKETS });
      return (durationMs) => histogram.observe(durationMs / 1000);
    },
    addGauge(name, help, read, { label, across = "sum" } = {}) {
      new Gauge({
        name,
        help,
        registers,
        aggregator: across,
        labelNames: label === undefined ? [] : [label],
        async collect() {
          const reading = await attempt(read);
          if (typeof reading === "number") return this.set(reading);
          if (label === undefined) return this.remove();
          this.reset();
          for (const [value, number] of Object.entries(reading ?? {})) this.set({ [label]: value }, number);
        },
      });
    },
    collect: async () =>
      (
        await Promise.all([registry.getMetricsAsJSON(), processRegistry().getMetricsAsJSON()])
      ).flat() as MetricValues,
    expose: async () =>
      (await readWhole()) ??
      (await Promise.all([registry.metrics(), processRegistry().metrics()])).join("\n"),
  };
}

async function attempt(read: () => Reading | Promise<Reading>): Promise<Reading> {
  try {
    return await read();
  } catch {
    return undefined;
  }
}

function countCalls(registry: Registry): ObserveCall {
  const registers = [registry];
  const calls = new Counter({
    name: "pgquiver_calls_total",
    help: "Calls that have ended, by their outcome: ok, or the error's gRPC code.",
    labelNames: ["rpc", "protocol", "code"],
    registers,
  });
  const durations = new Histogram({
    name: "pgquiver_call_duration_seconds",
    help: "How long calls took, from the request read to the reply made; of a stream, as long as it was open.",
    labelNames: ["rpc", "protocol"],
    buckets: DURATION_BUCKETS,
    registers,
  });
  const open = new Gauge({
    name: "pgquiver_calls_open",
    help: "Calls under way, unary ones and streams.",
    labelNames: ["kind"],
    registers,
  });
  for (const kind of ["unary", "stream"]) open.set({ kind }, 0);
  return (method, protocol) => {
    const kind = method.methodKind === "unary" ? "unary" : "stream";
    const rpc = `${method.parent.typeName}/${method.name}`;
    open.inc({ kind });
    return (durationMs, code) => {
      open.dec({ kind });
      calls.inc({ rpc, protocol, code: code === undefined ? "ok" : nameOf(code) });
      durations.observe({ rpc, protocol }, durationMs / 1000);
    };
  };
}

/** The name of a code in gRPC's spelling, in lower case: `not_found`. */
export function nameOf(code: Code): string {
  if (code === Code.Canceled) return "cancelled";
  return (Code[code] ?? "unknown").replace(/(?<=[a-z])(?=[A-Z])/g, "_").toLowerCase();
}

/** Adds GET /metrics; requires the scope `operator`, because metrics reveal something of the data of all projects. */
export function metricsRoute(app: FastifyInstance, metrics: Metrics): void {
  app.get("/metrics", { config: { scope: Scope.OPERATOR } }, async (_request, reply) =>
    reply.type(Registry.PROMETHEUS_CONTENT_TYPE).send(await metrics.expose()),
  );
}
