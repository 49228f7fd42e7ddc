import { context, diag, DiagLogLevel } from "@opentelemetry/api";
import { AsyncLocalStorageContextManager } from "@opentelemetry/context-async-hooks";
import { OTLPMetricExporter } from "@opentelemetry/exporter-metrics-otlp-proto";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-proto";
import {
  defaultResource,
  detectResources,
  envDetector,
  hostDetector,
  resourceFromAttributes,
  serviceInstanceIdDetector,
  type Resource,
} from "@opentelemetry/resources";
import { MeterProvider, PeriodicExportingMetricReader } from "@opentelemetry/sdk-metrics";
import {
  AlwaysOffSampler,
  AlwaysOnSampler,
  BatchSpanProcessor,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
  type Sampler,
} from "@opentelemetry/sdk-trace";
import { setTracing } from "../../tracing.ts";
import type { MetricValues } from "../../wire/metrics.ts";
import { produceMetrics } from "./metrics.ts";
import { createTracing } from "./tracer.ts";

/** The samplers, by their names in OTEL_TRACES_SAMPLER. */
export type SamplerName =
  | "always_on"
  | "always_off"
  | "traceidratio"
  | "parentbased_always_on"
  | "parentbased_always_off"
  | "parentbased_traceidratio";

/** What is sent where; the exporters read their endpoints, headers and timeouts from the environment themselves. */
export interface TelemetryOptions {
  sendsTraces: boolean;
  sendsMetrics: boolean;
  sampler: SamplerName;
  /** Share of the traces that the samplers by ratio record. */
  samplerRatio: number;
  /** How often spans are sent, and how many may wait; more are dropped. */
  spanDelayMs: number;
  spansMax: number;
  /** How often metrics are sent. */
  metricsIntervalMs: number;
}

/** The running SDK. */
export interface Telemetry {
  /** Sends the metrics from now on. */
  sendMetrics: (collect: () => Promise<MetricValues>) => void;
  /** Sends what waits, for at most `withinMs`, and ends. */
  stop: (withinMs: number) => Promise<void>;
}

/** The least time between two warnings about the collector. */
const WARNING_INTERVAL_MS = 60_000;
/** The longest that a batch is tried to be sent for: until then no other is sent. */
const EXPORT_MS = 10_000;

/** Starts OpenTelemetry's SDK. `worker`: number of the worker that the process is; undefined: it is none. */
export function startTelemetry(
  options: TelemetryOptions,
  warn: (message: string) => void,
  worker: number | undefined,
): Telemetry {
  reportFaults(warn);
  const resource = describeProcess(worker);
  const stops: (() => Promise<void>)[] = [];
  if (options.sendsTraces) {
    const provider = startTraces(options, resource);
    stops.push(async () => {
      setTracing(undefined);
      await provider.shutdown();
    });
  }
  return {
    sendMetrics(collect) {
      if (!options.sendsMetrics) return;
      const reader = new PeriodicExportingMetricReader({
        exporter: new OTLPMetricExporter(),
        exportIntervalMillis: options.metricsIntervalMs,
        exportTimeoutMillis: Math.min(EXPORT_MS, options.metricsIntervalMs),
        metricProducers: [produceMetrics(collect, (worker ?? 1) === 1)],
      });
      const provider = new MeterProvider({ resource, readers: [reader] });
      stops.push(() => provider.shutdown());
    },
    async stop(withinMs) {
      const { promise: late, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, withinMs);
      const stopped = Promise.all(stops.map((stop) => stop().catch(() => {})));
      await Promise.race([stopped, late]);
      clearTimeout(timer);
    },
  };
}

function startTraces(options: TelemetryOptions, resource: Resource): TracerProvider {
  const processor = new BatchSpanProcessor({
    exporter: new OTLPTraceExporter(),
    scheduledDelayMillis: options.spanDelayMs,
    maxQueueSize: options.spansMax,
    maxExportBatchSize: Math.min(512, options.spansMax),
    exportTimeoutMillis: EXPORT_MS,
  });
  const provider = new TracerProvider({
    resource,
    sampler: createSampler(options),
    spanProcessors: [processor],
  });
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
  setTracing(createTracing(provider.getTracer("pgquiver")));
  return provider;
}

function createSampler({ sampler, samplerRatio }: TelemetryOptions): Sampler {
  const roots = {
    always_on: () => new AlwaysOnSampler(),
    always_off: () => new AlwaysOffSampler(),
    traceidratio: () => new TraceIdRatioBasedSampler(samplerRatio),
  };
  const name = sampler.replace("parentbased_", "") as keyof typeof roots;
  const root = roots[name]();
  return sampler.startsWith("parentbased_") ? new ParentBasedSampler({ root }) : root;
}

/** The attributes of all that the process sends. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have precedence. */
function describeProcess(worker: number | undefined): Resource {
  const own = {
    "service.name": "pgquiver",
    "process.pid": process.pid,
    ...(worker !== undefined && { "pgquiver.worker": worker }),
  };
  const detectors = [hostDetector, serviceInstanceIdDetector, envDetector];
  return defaultResource().merge(resourceFromAttributes(own)).merge(detectResources({ detectors }));
}

/** Logs the SDK's warnings, such as of a collector that is away, once a minute. */
function reportFaults(warn: (message: string) => void): void {
  let lastAt = -Infinity;
  const report = (message: string, ...details: unknown[]) => {
    if (performance.now() - lastAt < WARNING_INTERVAL_MS) return;
    lastAt = performance.now();
    warn(`OpenTelemetry: ${[message, ...details].map(String).join(" ").slice(0, 500)}`);
  };
  const ignore = () => {};
  const logger = { error: report, warn: report, info: ignore, debug: ignore, verbose: ignore };
  diag.setLogger(logger, { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
}
