import { openAsBlob } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport } from "@connectrpc/connect-node";
import { afterAll, beforeEach, describe, expect, inject, onTestFinished, test } from "vitest";
import { EmbeddingService } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { IngestService } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { SearchService } from "../../../gen/pgquiver/v1/search_pb.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { openEmbedded } from "../../../src/postgres/embedded/embedded.ts";
import { startTelemetry } from "../../../src/monitoring/otel/start.ts";
import { startCollector, type ReceivedSpan } from "../../support/servers/collector.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { embedderAt } from "../../support/servers/embedder.ts";
import { startEmbeddingServer } from "../../support/servers/embedding-server.ts";
import { send } from "../../support/clients/http.ts";
import { freePort, start } from "../../support/servers/process.ts";
import { startServer } from "../../support/servers/server.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

const collector = await startCollector();
process.env["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url;
const telemetry = startTelemetry(
  {
    sendsTraces: true,
    sendsMetrics: true,
    sampler: "parentbased_always_on",
    samplerRatio: 1,
    spanDelayMs: 50,
    spansMax: 10_000,
    metricsIntervalMs: 1_000,
  },
  () => {},
  undefined,
);
const lines: string[] = [];
const log = createLogger(
  { level: "info", format: "json", isTraced: true },
  { write: (line: string) => void lines.push(line) },
);
const provider = await startEmbeddingServer({ dimensions: 8 });
const database = await openTestDatabase();
const server = await startServer({ database, embedder: embedderAt(provider.url), log });
const grpc = createGrpcTransport({ baseUrl: server.url });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await telemetry.stop(1_000);
  await provider[Symbol.asyncDispose]();
  await database.close();
  await collector[Symbol.asyncDispose]();
});

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER = "00f067aa0ba902b7";
const traceparent = `00-${TRACE}-${CALLER}-01`;
const json = { "content-type": "application/json" };
const post = (path: string, body: object, headers = {}) =>
  send(`${server.url}${path}`, "POST", JSON.stringify(body), { ...json, ...headers });
await post("/v1/vector_stores", { id: "s" });
await post("/v1/vector_stores/s/embeddings", { content: "a text" });

beforeEach(() => {
  collector.spans.length = 0;
  lines.length = 0;
});

/** The spans of a trace once that with the name has arrived, which ends last. */
async function spansUntil(name: string | RegExp): Promise<ReceivedSpan[]> {
  const last = await collector.untilSpan(name);
  return collector.spans.filter(({ traceId }) => traceId === last.traceId);
}
const named = (spans: ReceivedSpan[], name: string | RegExp) => {
  const found = spans.find((span) => (typeof name === "string" ? span.name === name : name.test(span.name)));
  expect(found, `${name} in ${spans.map((span) => span.name).join(", ")}`).toBeDefined();
  return found as ReceivedSpan;
};

test("a search by text over gRPC is one trace: the call, the provider's request, the statements", async () => {
  const asked = { vectorStoreId: "s", query: ["a secret word"] };
  await createClient(SearchService, grpc).search(asked as never, { headers: { traceparent } });
  const spans = await spansUntil("pgquiver.v1.SearchService/Search");
  expect(new Set(spans.map(({ traceId }) => traceId))).toEqual(new Set([TRACE]));
  const call = named(spans, "pgquiver.v1.SearchService/Search");
  expect(call).toMatchObject({
    parentId: CALLER,
    kind: 2,
    status: 0,
    attributes: {
      "rpc.system.name": "grpc",
      "rpc.method": "pgquiver.v1.SearchService/Search",
      "rpc.response.status_code": "OK",
      "pgquiver.project": "default",
    },
    resource: { "service.name": "pgquiver" },
  });
  const embed = named(spans, /^embeddings /);
  expect(embed).toMatchObject({
    parentId: call.spanId,
    kind: 3,
    attributes: {
      "gen_ai.operation.name": "embeddings",
      "gen_ai.request.model": expect.any(String),
      "gen_ai.usage.input_tokens": 3,
      "gen_ai.embeddings.dimension.count": 8,
      "server.address": "127.0.0.1",
    },
  });
  expect(provider.requests.at(-1)?.headers["traceparent"]).toBe(`00-${TRACE}-${embed.spanId}-01`);
  const query = named(spans, /^SELECT .*embeddings/);
  expect(query).toMatchObject({
    parentId: call.spanId,
    kind: 3,
    attributes: {
      "db.system.name": "postgresql",
      "db.operation.name": "SELECT",
      "db.query.summary": query.name,
      "pgquiver.backend_pid": expect.any(Number),
    },
  });
  // Nothing that callers wrote.
  expect(JSON.stringify(spans)).not.toContain("secret");
  const line = lines
    .map((text) => JSON.parse(text))
    .find(({ rpc }) => rpc === "pgquiver.v1.SearchService/Search");
  expect(line).toMatchObject({ trace_id: TRACE, span_id: call.spanId });
});

describe("a call", () => {
  test("of OpenAI's routes is named by its route, and its own fault is an error", async () => {
    expect((await post("/v1/vector_stores/s/search", { query: "x" }, { traceparent })).status).toBe(200);
    const [found] = (await spansUntil("POST /v1/vector_stores/{vector_store_id}/search")).filter(
      ({ kind }) => kind === 2,
    );
    expect(found).toMatchObject({
      traceId: TRACE,
      parentId: CALLER,
      attributes: {
        "http.request.method": "POST",
        "http.route": "/v1/vector_stores/{vector_store_id}/search",
        "url.path": "/v1/vector_stores/s/search",
        "http.response.status_code": 200,
      },
    });
    provider.next({ status: 500, body: {} });
    expect((await post("/v1/vector_stores/s/search", { query: "another" })).status).toBe(503);
    await expect
      .poll(() =>
        collector.spans
          .filter(({ status }) => status === 2)
          .map(({ name, attributes }) => [name.split(" ")[0], attributes["error.type"]]),
      )
      .toEqual([
        ["embeddings", "EMBEDDING_PROVIDER_UNAVAILABLE"],
        ["POST", "UNAVAILABLE"],
      ]);
  });

  test("that is refused is no error of the server's", async () => {
    await expect(
      createClient(SearchService, grpc).search({ vectorStoreId: "missing", query: ["x"] } as never),
    ).rejects.toThrow();
    const found = await collector.untilSpan("pgquiver.v1.SearchService/Search");
    expect(found).toMatchObject({
      status: 0,
      parentId: "",
      attributes: { "rpc.response.status_code": "NOT_FOUND", "error.type": "NOT_FOUND" },
    });
  });

  test("of Connect is traced too", async () => {
    const connect = createConnectTransport({ baseUrl: server.url, httpVersion: "1.1" });
    const asked = { vectorStoreId: "s", query: ["x"] };
    await createClient(SearchService, connect).search(asked as never, { headers: { traceparent } });
    const found = await collector.untilSpan("pgquiver.v1.SearchService/Search");
    expect(found).toMatchObject({ traceId: TRACE, attributes: { "rpc.system.name": "connectrpc" } });
  });

  test("whose caller does not sample is not recorded, and nothing in it", async () => {
    const headers = { traceparent: `00-${TRACE}-${CALLER}-00` };
    const asked = { vectorStoreId: "s", query: ["unsampled"] };
    await createClient(SearchService, grpc).search(asked as never, { headers });
    expect(provider.requests.at(-1)?.headers["traceparent"]).toMatch(
      new RegExp(`^00-${TRACE}-[0-9a-f]{16}-00$`),
    );
    await createClient(SearchService, grpc).search(asked as never);
    await collector.untilSpan("pgquiver.v1.SearchService/Search");
    expect(collector.spans.filter(({ traceId }) => traceId === TRACE)).toEqual([]);
  });

  test.each(["nonsense", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", ""])(
    "with the traceparent %j begins a trace",
    async (header) => {
      await post("/v1/vector_stores/s/search", { query: "x" }, { traceparent: header });
      const found = await collector.untilSpan(/^POST/);
      expect(found).toMatchObject({
        parentId: "",
        traceId: expect.stringMatching(/^(?!0{32})[0-9a-f]{32}$/),
      });
    },
  );
});

test("an insertion and its transaction are in the trace of the call", async () => {
  const rows = [{ id: "one", content: "x", embedding: [1, 2, 3, 4, 5, 6, 7, 8] }];
  const asked = { vectorStoreId: "s", embeddings: rows };
  await createClient(EmbeddingService, grpc).batchCreateEmbeddings(asked as never, {
    headers: { traceparent },
  });
  const spans = await spansUntil("pgquiver.v1.EmbeddingService/BatchCreateEmbeddings");
  named(spans, "shared transaction");
  named(spans, /^INSERT embeddings$/);
});

test("a stream of a client is one span, with the COPY of each group", async () => {
  async function* messages() {
    yield { message: { case: "open", value: { vectorStoreId: "s" } } };
    const rows = Array.from({ length: 100 }, (_, index) => ({
      id: `row-${index}`,
      content: "x",
      embedding: [1, 2, 3, 4, 5, 6, 7, index],
    }));
    yield { message: { case: "batch", value: { seq: 1n, rows } } };
    yield { message: { case: "finish", value: {} } };
  }
  const summary = await createClient(IngestService, grpc).ingest(messages() as never, {
    headers: { traceparent },
  });
  expect(Number(summary.rowsWritten)).toBe(100);
  const spans = await spansUntil("pgquiver.v1.IngestService/Ingest");
  const call = named(spans, "pgquiver.v1.IngestService/Ingest");
  const group = named(spans, "ingest group");
  expect(group).toMatchObject({ parentId: call.spanId, attributes: { "pgquiver.rows": 100 } });
  expect(named(spans, "COPY embeddings").parentId).toBe(group.spanId);
});

test("a file is a trace of its own: reading, embedding, storing", async () => {
  const form = new FormData();
  form.append("purpose", "assistants");
  form.append("file", new File(["A text of a few words."], "a.txt"));
  const file = (await (await fetch(`${server.url}/v1/files`, { method: "POST", body: form })).json()) as {
    id: string;
  };
  await post("/v1/vector_stores/s/files", { file_id: file.id }, { traceparent });
  const spans = await spansUntil("process file");
  const whole = named(spans, "process file");
  expect(whole).toMatchObject({ parentId: "", attributes: { "pgquiver.file_id": file.id } });
  expect(whole.traceId).not.toBe(TRACE);
  for (const stage of ["read document", "embed chunks", "store chunks"])
    expect(named(spans, stage).parentId, stage).toBe(whole.spanId);
  expect(named(spans, /^embeddings /).parentId).toBe(named(spans, "embed chunks").spanId);
});

test("each step of the index worker is a trace of its own, with its statements", async () => {
  await using working = await startServer({ database, indexes: { isWorking: true }, indexPollMs: 100 });
  await send(`${working.url}/v1/vector_stores/s/index`, "POST", '{"policy":"always"}', json);
  const [created, built] = [await spansUntil("index create"), await spansUntil("index build")];
  for (const [step, spans] of Object.entries({ create: created, build: built })) {
    const whole = named(spans, `index ${step}`);
    expect(whole).toMatchObject({ parentId: "", status: 0, attributes: { "pgquiver.vector_store_id": "s" } });
    expect(named(spans, /^CREATE/).parentId, step).toBe(whole.spanId);
  }
  expect(created[0]?.traceId).not.toBe(built[0]?.traceId);
});

test("statements that are not prepared carry their span's ids to the server, prepared ones keep their text", async () => {
  const { rows } = await database.pool.query("select current_query() as text");
  expect(rows[0].text).not.toContain("traceparent");
  const texts: string[] = [];
  const { traced } = await import("../../../src/tracing.ts");
  const work = async () => {
    for (const name of [undefined, "named", "named", "named"]) {
      const query = { text: "select current_query() as text", ...(name !== undefined && { name }) };
      texts.push((await database.pool.query(query)).rows[0].text);
    }
  };
  await traced("outer", () => ({}), work, "root");
  const spans = await spansUntil("outer");
  const commented = new RegExp(
    `^select current_query\\(\\) as text /\\*traceparent='00-${spans[0]?.traceId}-[0-9a-f]{16}-01'\\*/$`,
  );
  expect(texts[0]).toMatch(commented);
  // A connection prepares a statement when it comes a second time.
  expect(texts[1]).toMatch(commented);
  expect(texts.slice(2)).toEqual(["select current_query() as text", "select current_query() as text"]);
});

describe("the service", () => {
  async function serve(endpoint: string, more: Record<string, string> = {}) {
    const directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
    const template = inject("template");
    if (template.kind === "embedded") {
      const snapshot = await openAsBlob(template.migrated);
      await (await openEmbedded({ directory, snapshot, ...TEST_LIMITS })).close();
    }
    const started = start({
      PORT: "0",
      ...(database.url === undefined ? { DATA_DIRECTORY: directory } : { DATABASE_URL: database.url }),
      OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
      OTEL_METRIC_EXPORT_INTERVAL: "1000",
      ...more,
    });
    const url = /http:\S+/.exec(await started.said(/^Listening on/))?.[0] ?? "";
    return { ...started, url };
  }

  test("sends spans and metrics, the last of them when it ends", async () => {
    await using own = await startCollector();
    const { child, ended, url } = await serve(own.url, {
      OTEL_BSP_SCHEDULE_DELAY: "3600000",
      OTEL_SERVICE_NAME: "mine",
      OTEL_RESOURCE_ATTRIBUTES: "deployment.environment.name=test",
    });
    await send(`${url}/v1/vector_stores`, "POST", '{"id":"x"}', json);
    expect(own.spans).toEqual([]);
    child.kill("SIGTERM");
    expect((await ended).code).toBe(0);
    expect(own.spans.find(({ name }) => name === "POST /v1/vector_stores")).toMatchObject({
      resource: { "service.name": "mine", "deployment.environment.name": "test" },
    });
    const metric = (name: string) => own.metrics.find((one) => one.name === name);
    const rpc = "pgquiver.v1.VectorStoreService/CreateVectorStore";
    expect(metric("pgquiver_calls_total")).toMatchObject({
      kind: "sum",
      isMonotonic: true,
      points: [{ attributes: { rpc, protocol: "rest", code: "ok" }, value: 1 }],
    });
    const durations = metric("pgquiver_call_duration_seconds");
    expect(durations).toMatchObject({ kind: "histogram", unit: "s", points: [{ count: 1 }] });
    const [point] = durations?.points ?? [];
    expect(point?.buckets?.length).toBe((point?.bounds?.length ?? 0) + 1);
    expect(point?.buckets?.reduce((sum, count) => sum + count, 0)).toBe(1);
    expect(metric("pgquiver_vector_stores")).toMatchObject({ kind: "gauge" });
  });

  test("loads nothing of the SDK without an endpoint", async () => {
    const hooks = `import { registerHooks } from "node:module";
      registerHooks({ resolve(name, context, next) {
        // prom-client loads the interfaces, which are no part of the SDK.
        if (/^@opentelemetry.(?!api$)/.test(name)) console.log("loads " + name);
        return next(name, context);
      } });`;
    const watch = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(hooks)}` };
    const off = await serve("", watch);
    expect((await send(`${off.url}/v1/vector_stores`, "GET", undefined, {})).status).toBe(200);
    expect(off.output.filter((line) => line.startsWith("loads"))).toEqual([]);
    const on = await serve(collector.url, watch);
    expect(on.output.filter((line) => line.startsWith("loads"))).not.toEqual([]);
  });

  test("answers, and ends in time, while the collector is silent", async () => {
    const silent = createServer(() => {});
    const port = await freePort();
    silent.listen(port, "127.0.0.1");
    onTestFinished(() => {
      silent.closeAllConnections();
      silent.close();
    });
    const { child, ended, url } = await serve(`http://127.0.0.1:${port}`, {
      OTEL_BSP_SCHEDULE_DELAY: "10",
      OTEL_BSP_MAX_QUEUE_SIZE: "100",
    });
    for (let call = 0; call < 300; call++)
      expect((await send(`${url}/v1/vector_stores`, "GET", undefined, {})).status).toBe(200);
    const toldAt = performance.now();
    child.kill("SIGTERM");
    expect((await ended).code).toBe(0);
    expect(performance.now() - toldAt).toBeLessThan(6_000);
  });

  test("says that the collector is away, and serves", async () => {
    const { said, url } = await serve(`http://127.0.0.1:${await freePort()}`, {
      OTEL_BSP_SCHEDULE_DELAY: "10",
    });
    expect((await send(`${url}/v1/vector_stores`, "GET", undefined, {})).status).toBe(200);
    expect(await said(/^OpenTelemetry: /)).toMatch(/export/i);
  });
});
