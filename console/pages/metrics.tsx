import { useEffect, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { messageOf, read } from "../api/clients.ts";
import { parseMetrics, quantile, sum, type Sample } from "../api/prometheus.ts";
import { watch } from "../api/watch.ts";
import { Failure } from "../ui/parts.tsx";

/** Most readings that are shown: five minutes. */
const READINGS = 300;

interface Reading {
  at: number;
  samples: Sample[];
}

/** A plot: what it shows of two readings that follow each other. */
interface Curve {
  name: string;
  unit: string;
  read: (before: Reading, after: Reading) => number | undefined;
}

const rate = (name: string) => (before: Reading, after: Reading) =>
  Math.max(0, sum(after.samples, name) - sum(before.samples, name)) / Math.max(0.001, after.at - before.at);

const latency = (q: number) => (before: Reading, after: Reading) => {
  const seconds = quantile(before.samples, after.samples, { name: "pgquiver_call_duration_seconds", q });
  return seconds === undefined ? undefined : seconds * 1000;
};

const gauge = (name: string, labels?: Record<string, string>) => (_: Reading, after: Reading) =>
  sum(after.samples, name, labels);

const CURVES: readonly Curve[] = [
  { name: "Requests", unit: "/s", read: rate("pgquiver_calls_total") },
  { name: "Latency, median", unit: " ms", read: latency(0.5) },
  { name: "Latency, 99 %", unit: " ms", read: latency(0.99) },
  { name: "Rows ingested", unit: "/s", read: rate("pgquiver_ingest_rows_total") },
  { name: "Database connections", unit: "", read: gauge("pgquiver_database_connections") },
  { name: "Waiting for a connection", unit: "", read: gauge("pgquiver_database_waiting") },
  { name: "Searches waiting", unit: "", read: gauge("pgquiver_searches_waiting") },
  { name: "Files in progress", unit: "", read: gauge("pgquiver_files_in_progress") },
];

/** The metrics of the service at a glance. */
export function Metrics() {
  const [readings, setReadings] = useState<Reading[]>([]);
  const [error, setError] = useState<string>();
  useEffect(() => {
    const scrape = async (signal: AbortSignal) => {
      try {
        const reply = await read("metrics", signal);
        return {
          at: performance.timeOrigin / 1000 + performance.now() / 1000,
          samples: parseMetrics(await reply.text()),
        };
      } catch (failure) {
        if (!signal.aborted) setError(messageOf(failure));
        throw failure;
      }
    };
    return watch(scrape, {
      onState: (reading) => {
        setError(undefined);
        setReadings((old) => [...old.slice(1 - READINGS), reading]);
      },
      isMoving: () => true,
    });
  }, []);
  return (
    <>
      <div class="title">
        <h1>Metrics</h1>
      </div>
      <Failure error={error} />
      <div class="plots">
        {CURVES.map((curve) => (
          <Plot key={curve.name} curve={curve} readings={readings} />
        ))}
      </div>
    </>
  );
}

function Plot({ curve, readings }: { curve: Curve; readings: readonly Reading[] }) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const values = readings
    .slice(1)
    .map((after, index) => curve.read(readings[index] as Reading, after) ?? null);
  const last = values.findLast((value) => value !== null);
  useEffect(() => {
    const element = box.current;
    if (element === null) return undefined;
    const colour = getComputedStyle(element).color;
    const size = () => ({ width: element.clientWidth, height: 90 });
    const drawn = new uPlot(
      {
        ...size(),
        legend: { show: false },
        cursor: { show: false },
        axes: [{ show: false }, { show: false }],
        scales: { y: { range: (_, __, max) => [0, Math.max(max * 1.1, 1)] } },
        series: [{}, { stroke: colour, width: 2, fill: translucent(colour), points: { show: false } }],
      },
      [[], []],
      element,
    );
    plot.current = drawn;
    const resized = new ResizeObserver(() => drawn.setSize(size()));
    resized.observe(element);
    return () => {
      resized.disconnect();
      drawn.destroy();
    };
  }, []);
  useEffect(() => plot.current?.setData([readings.slice(1).map(({ at }) => at), values]), [readings]);
  return (
    <section class="card" aria-label={curve.name}>
      <div class="row between">
        <span class="quiet">{curve.name}</span>
        <strong>
          {last === undefined
            ? "–"
            : `${last.toLocaleString("en", { maximumFractionDigits: 1 })}${curve.unit}`}
        </strong>
      </div>
      <div class="curve" ref={box} aria-hidden="true" />
    </section>
  );
}

/** A colour of `rgb(…)` form, nearly transparent. */
function translucent(colour: string): string {
  return colour.replace(/^rgb\((.*)\)$/, "rgba($1, 0.12)");
}
