import { expect, test } from "vitest";
import { produceMetrics } from "../../../src/monitoring/otel/metrics.ts";
import { createMetrics } from "../../../src/wire/metrics.ts";

/** The metrics of the service as OpenTelemetry's reader gets them, by their names. */
async function produce(isFirst: boolean) {
  const metrics = createMetrics();
  metrics.addCounter("pgquiver_rows_total", "Rows.")(3);
  const observe = metrics.addDurations("pgquiver_work_seconds", "Work.");
  for (const durationMs of [0.5, 2, 2, 700_000]) observe(durationMs);
  metrics.addGauge("pgquiver_busy", "Of this process.", () => 2);
  metrics.addGauge("pgquiver_stored", "Of the database.", () => ({ a: 5, b: 6 }), {
    label: "of",
    across: "first",
  });
  const { resourceMetrics } = await produceMetrics(metrics.collect, isFirst).collect();
  const all = resourceMetrics.scopeMetrics.flatMap((scope) => scope.metrics);
  return new Map(all.map((metric) => [metric.descriptor.name, metric]));
}

test("counters, gauges and histograms have the numbers of /metrics", async () => {
  const found = await produce(true);
  expect(found.get("pgquiver_rows_total")).toMatchObject({ isMonotonic: true, dataPoints: [{ value: 3 }] });
  expect(found.get("pgquiver_busy")?.dataPoints).toMatchObject([{ value: 2, attributes: {} }]);
  expect(found.get("pgquiver_stored")?.dataPoints).toMatchObject([
    { value: 5, attributes: { of: "a" } },
    { value: 6, attributes: { of: "b" } },
  ]);
  expect(found.get("pgquiver_work_seconds")).toMatchObject({
    descriptor: { unit: "s" },
    dataPoints: [
      {
        value: {
          count: 4,
          sum: 700.0045,
          buckets: {
            boundaries: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600],
            counts: [1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
          },
        },
      },
    ],
  });
});

test("what the database says is sent by the first worker only, what a process counts by each", async () => {
  const names = [...(await produce(false)).keys()];
  expect(names).not.toContain("pgquiver_stored");
  expect(names).toEqual(
    expect.arrayContaining(["pgquiver_rows_total", "pgquiver_busy", "nodejs_eventloop_lag_seconds"]),
  );
});
