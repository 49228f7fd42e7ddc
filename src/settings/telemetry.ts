import type { SamplerName, TelemetryOptions } from "../monitoring/otel/start.ts";

/** The values of OpenTelemetry's variables that the service reads itself. */
interface TelemetrySettings {
  OTEL_SDK_DISABLED: "true" | "false";
  OTEL_EXPORTER_OTLP_ENDPOINT: string | undefined;
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: string | undefined;
  OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: string | undefined;
  OTEL_TRACES_EXPORTER: "otlp" | "none";
  OTEL_METRICS_EXPORTER: "otlp" | "none";
  OTEL_TRACES_SAMPLER: SamplerName;
  OTEL_TRACES_SAMPLER_ARG: number;
  OTEL_BSP_SCHEDULE_DELAY: number;
  OTEL_BSP_MAX_QUEUE_SIZE: number;
  OTEL_METRIC_EXPORT_INTERVAL: number;
}

/** What is sent to a collector of OpenTelemetry's; undefined: nothing is. */
export function readTelemetry(settings: TelemetrySettings): TelemetryOptions | undefined {
  const { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint } = settings;
  const traces = settings.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT ?? endpoint;
  const metrics = settings.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT ?? endpoint;
  const sendsTraces = traces !== undefined && settings.OTEL_TRACES_EXPORTER === "otlp";
  const sendsMetrics = metrics !== undefined && settings.OTEL_METRICS_EXPORTER === "otlp";
  if (settings.OTEL_SDK_DISABLED === "true" || (!sendsTraces && !sendsMetrics)) return undefined;
  return {
    sendsTraces,
    sendsMetrics,
    sampler: settings.OTEL_TRACES_SAMPLER,
    samplerRatio: settings.OTEL_TRACES_SAMPLER_ARG,
    spanDelayMs: settings.OTEL_BSP_SCHEDULE_DELAY,
    spansMax: settings.OTEL_BSP_MAX_QUEUE_SIZE,
    metricsIntervalMs: settings.OTEL_METRIC_EXPORT_INTERVAL,
  };
}
