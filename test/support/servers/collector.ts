import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { gunzipSync } from "node:zlib";
import { loadSync, type MethodDefinition } from "@grpc/proto-loader";

/** A span as a collector receives it. */
export interface ReceivedSpan {
  name: string;
  traceId: string;
  spanId: string;
  /** "": none. */
  parentId: string;
  /** 1 internal, 2 server, 3 client. */
  kind: number;
  /** 0 unset, 1 ok, 2 error. */
  status: number;
  durationMs: number;
  attributes: Record<string, unknown>;
  /** Attributes of the process. */
  resource: Record<string, unknown>;
}

/** A metric as a collector receives it. */
export interface ReceivedMetric {
  name: string;
  unit: string;
  kind: "gauge" | "sum" | "histogram";
  isMonotonic?: boolean;
  points: {
    attributes: Record<string, unknown>;
    value?: number;
    count?: number;
    sum?: number;
    buckets?: number[];
    bounds?: number[];
  }[];
}

/** A collector of OpenTelemetry's protocol over HTTP. */
export interface Collector extends AsyncDisposable {
  /** For OTEL_EXPORTER_OTLP_ENDPOINT. */
  url: string;
  spans: ReceivedSpan[];
  /** The metrics of the last request. */
  metrics: ReceivedMetric[];
  requests: number;
  /** Waits for a span. */
  untilSpan: (name: string | RegExp) => Promise<ReceivedSpan>;
}

interface Attribute {
  key: string;
  value: { value: string } & Record<string, unknown>;
}
interface RawSpan {
  name: string;
  traceId: Uint8Array;
  spanId: Uint8Array;
  parentSpanId: Uint8Array;
  kind: number;
  status: { code: number } | null;
  startTimeUnixNano: number;
  endTimeUnixNano: number;
  attributes: Attribute[];
}
interface RawMetric {
  name: string;
  unit: string;
  data: ReceivedMetric["kind"];
  gauge: RawPoints;
  sum: RawPoints;
  histogram: RawPoints;
}
interface RawPoints {
  isMonotonic?: boolean;
  dataPoints: {
    attributes: Attribute[];
    asDouble: number;
    count: number;
    sum: number;
    bucketCounts: number[];
    explicitBounds: number[];
  }[];
}
interface TraceRequest {
  resourceSpans: { resource: { attributes: Attribute[] }; scopeSpans: { spans: RawSpan[] }[] }[];
}
interface MetricsRequest {
  resourceMetrics: { scopeMetrics: { metrics: RawMetric[] }[] }[];
}

const options = { keepCase: false, longs: Number, enums: Number, defaults: true, oneofs: true };
const { "otlp.Collector": service } = loadSync(join(import.meta.dirname, "otlp.proto"), options);
const { Traces: traces, Metrics: metrics } = service as Record<
  "Traces" | "Metrics",
  MethodDefinition<object, object>
>;

const toAttributes = (list: Attribute[] = []) =>
  Object.fromEntries(list.map(({ key, value }) => [key, value[value.value]]));
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");

/** Starts a collector on loopback. `answer` replies to requests; default: at once, with 200. */
export async function startCollector(
  answer: (reply: ServerResponse) => void = (reply) => void reply.writeHead(200).end(),
): Promise<Collector> {
  const waiting = new Set<() => void>();
  const receive = async (request: IncomingMessage, reply: ServerResponse) => {
    const sent = await buffer(request);
    const body = request.headers["content-encoding"] === "gzip" ? gunzipSync(sent) : sent;
    collector.requests++;
    if (request.url === "/v1/traces") collector.spans.push(...readSpans(body));
    if (request.url === "/v1/metrics") collector.metrics = readMetrics(body);
    answer(reply);
    for (const look of waiting) look();
  };
  const server = createServer((request, reply) => void receive(request, reply));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const collector: Collector = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans: [],
    metrics: [],
    requests: 0,
    untilSpan: (name) =>
      new Promise((resolve) => {
        const look = () => {
          const found = collector.spans.find((span) =>
            typeof name === "string" ? span.name === name : name.test(span.name),
          );
          if (found === undefined) return;
          waiting.delete(look);
          resolve(found);
        };
        waiting.add(look);
        look();
      }),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
  return collector;
}

function readSpans(body: Buffer): ReceivedSpan[] {
  const { resourceSpans } = traces.requestDeserialize(body) as TraceRequest;
  return resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => ({
        name: span.name,
        traceId: hex(span.traceId),
        spanId: hex(span.spanId),
        parentId: hex(span.parentSpanId),
        kind: span.kind,
        status: span.status?.code ?? 0,
        durationMs: (span.endTimeUnixNano - span.startTimeUnixNano) / 1e6,
        attributes: toAttributes(span.attributes),
        resource: toAttributes(resource.attributes),
      })),
    ),
  );
}

function readMetrics(body: Buffer): ReceivedMetric[] {
  const { resourceMetrics } = metrics.requestDeserialize(body) as MetricsRequest;
  return resourceMetrics.flatMap(({ scopeMetrics }) =>
    scopeMetrics.flatMap((scope) =>
      scope.metrics.map((metric) => {
        const { isMonotonic, dataPoints } = metric[metric.data];
        return {
          name: metric.name,
          unit: metric.unit,
          kind: metric.data,
          ...(isMonotonic !== undefined && { isMonotonic }),
          points: dataPoints.map(({ attributes, asDouble, count, sum, bucketCounts, explicitBounds }) => ({
            attributes: toAttributes(attributes),
            value: asDouble,
            count,
            sum,
            buckets: bucketCounts,
            bounds: explicitBounds,
          })),
        };
      }),
    ),
  );
}
