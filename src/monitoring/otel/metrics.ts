import { ValueType, type HrTime } from "@opentelemetry/api";
import { millisToHrTime } from "@opentelemetry/core";
import { emptyResource } from "@opentelemetry/resources";
import {
  AggregationTemporality,
  DataPointType,
  type CollectionResult,
  type Histogram,
  type MetricData,
  type MetricProducer,
} from "@opentelemetry/sdk-metrics";
import type { MetricValues } from "../../wire/metrics.ts";

type PromMetric = MetricValues[number];

/**
 * Hands the metrics of the service to OpenTelemetry's reader as they are counted for `/metrics`: with the same names, and
 * counted once. Of what the database says, which is the same for all workers, the others than the first leave out.
 */
export function produceMetrics(
  collect: () => Promise<MetricValues>,
  isFirst: boolean,
  startedAtMs = performance.timeOrigin,
): MetricProducer {
  const startTime = millisToHrTime(startedAtMs);
  return {
    async collect(): Promise<CollectionResult> {
      const endTime = millisToHrTime(Date.now());
      const values = (await collect()).filter((metric) => isFirst || isOwn(metric));
      const metrics = values.map((metric) => convert(metric, startTime, endTime));
      const scope = { name: "pgquiver" };
      return {
        resourceMetrics: {
          resource: emptyResource(),
          scopeMetrics: [{ scope, metrics: metrics.filter((metric) => metric !== undefined) }],
        },
        errors: [],
      };
    },
  };
}

function isOwn({ name, aggregator }: PromMetric): boolean {
  return !name.startsWith("pgquiver_") || aggregator === "sum";
}

function convert(metric: PromMetric, startTime: HrTime, endTime: HrTime): MetricData | undefined {
  const base = {
    descriptor: {
      name: metric.name,
      description: metric.help,
      unit: unitOf(metric.name),
      valueType: ValueType.DOUBLE,
    },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
  };
  const point = <T>(labels: object, value: T) => ({
    startTime,
    endTime,
    attributes: Object.fromEntries(Object.entries(labels)),
    value,
  });
  // prom-client's types name the kinds by an enum, its JSON by words.
  switch (String(metric.type)) {
    case "counter":
      return {
        ...base,
        dataPointType: DataPointType.SUM,
        isMonotonic: true,
        dataPoints: metric.values.map(({ labels, value }) => point(labels, value)),
      };
    case "gauge":
      return {
        ...base,
        dataPointType: DataPointType.GAUGE,
        dataPoints: metric.values.map(({ labels, value }) => point(labels, value)),
      };
    case "histogram":
      return {
        ...base,
        dataPointType: DataPointType.HISTOGRAM,
        dataPoints: histograms(metric).map(({ labels, value }) => point(labels, value)),
      };
    default:
      return undefined;
  }
}

/** The histograms of a metric, one for each set of labels: Prometheus' buckets count what the lower ones have too. */
function histograms({ name, values }: PromMetric): { labels: object; value: Histogram }[] {
  const found = new Map<string, { labels: object; value: Histogram; below: number }>();
  for (const { labels, value, ...sample } of values) {
    const { le, ...own } = labels as Record<string, string | number>;
    const key = JSON.stringify(own);
    const histogram = found.get(key) ?? {
      labels: own,
      value: { buckets: { boundaries: [], counts: [] }, sum: 0, count: 0 },
      below: 0,
    };
    found.set(key, histogram);
    const { buckets } = histogram.value;
    const sampled = "metricName" in sample ? sample.metricName : name;
    if (sampled === `${name}_sum`) histogram.value.sum = value;
    else if (sampled === `${name}_count`) histogram.value.count = value;
    else {
      if (le !== "+Inf") buckets.boundaries.push(Number(le));
      buckets.counts.push(value - histogram.below);
      histogram.below = value;
    }
  }
  return [...found.values()];
}

function unitOf(name: string): string {
  if (/_seconds(?:_total)?$/.test(name)) return "s";
  return /_bytes(?:_total)?$/.test(name) ? "By" : "";
}
