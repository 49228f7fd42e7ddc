import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { parse } from "yaml";
import { grpcByGrpcJs } from "../../support/clients/grpc-client.ts";
import { readPromql } from "../../support/promql.ts";
import { restOverHttp1 } from "../../support/clients/rest-client.ts";
import { expectError, send } from "../../support/clients/http.ts";
import { startServer } from "../../support/servers/server.ts";

const root = join(import.meta.dirname, "../../..");
const key = "sk-metrics";
const PATIENCE = { timeout: 60_000 };
const server = await startServer({ apiKeys: [key] });
const grpc = grpcByGrpcJs.connect(server);
const rest = restOverHttp1.connect(server);
afterAll(async () => {
  await grpc[Symbol.asyncDispose]();
  await rest[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

const authorization = { authorization: `Bearer ${key}` };

/** The samples of a scrape, by name with labels. */
async function scrape(url = server.url): Promise<Record<string, number>> {
  const reply = await send(`${url}/metrics`, "GET", undefined, authorization);
  expect(reply.status).toBe(200);
  expect(reply.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
  const lines = reply.text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return Object.fromEntries(
    lines.map((line) => {
      const [, name = "", value] = /^(\S+(?:\{.*\})?) (\S+)$/.exec(line) ?? [];
      return [name, Number(value)];
    }),
  );
}

const calls = (rpc: string, protocol: string, code: string) =>
  `pgquiver_calls_total{rpc="pgquiver.v1.${rpc}",protocol="${protocol}",code="${code}"}`;

test("count calls by protocol and outcome, with their durations", async () => {
  const store = "VectorStoreService/GetVectorStore";
  const { id } = await rest.call("VectorStoreService/CreateVectorStore", {}, { key });
  await rest.call(store, { vector_store_id: id }, { key });
  for (let call = 0; call < 3; call++) await grpc.call(store, { vector_store_id: id }, { key });
  const missing = grpc.call(store, { vector_store_id: "none" }, { key });
  await expect(missing).rejects.toMatchObject({ code: "not_found" });
  const invalid = rest.call("SearchService/Search", { vector_store_id: id }, { key });
  await expect(invalid).rejects.toMatchObject({ code: "invalid_argument" });

  const samples = await scrape();
  expect(samples).toMatchObject({
    [calls("VectorStoreService/CreateVectorStore", "rest", "ok")]: 1,
    [calls(store, "rest", "ok")]: 1,
    [calls(store, "grpc", "ok")]: 3,
    [calls(store, "grpc", "not_found")]: 1,
    [calls("SearchService/Search", "rest", "invalid_argument")]: 1,
    [`pgquiver_call_duration_seconds_count{rpc="pgquiver.v1.${store}",protocol="grpc"}`]: 4,
    'pgquiver_calls_open{kind="unary"}': 0,
  });
  const sum = samples[`pgquiver_call_duration_seconds_sum{rpc="pgquiver.v1.${store}",protocol="grpc"}`];
  expect(sum).toBeGreaterThan(0);
});

test("count the calls over Connect and gRPC-Web as such", async () => {
  const headers = { ...authorization, "content-type": "application/json" };
  const path = "/pgquiver.v1.VectorStoreService/ListVectorStores";
  expect((await send(`${server.url}${path}`, "POST", "{}", headers)).status).toBe(200);
  const list = "VectorStoreService/ListVectorStores";
  expect((await scrape())[calls(list, "connect", "ok")]).toBe(1);
});

test("need a key, and count the requests that had none", async () => {
  const before = (await scrape())["pgquiver_keys_refused_total"] as number;
  expectError(await send(`${server.url}/metrics`, "GET"), 401, { code: "invalid_api_key" });
  const wrong = grpc.call("VectorStoreService/ListVectorStores", {}, { key: "sk-wrong" });
  await expect(wrong).rejects.toMatchObject({ code: "unauthenticated" });
  expect((await scrape())["pgquiver_keys_refused_total"]).toBe(before + 2);
});

test("tell what was ingested, what is stored and what was embedded", async () => {
  await using fresh = await startServer({ apiKeys: [key] });
  const client = restOverHttp1.connect(fresh);
  const { id } = await client.call("VectorStoreService/CreateVectorStore", {}, { key });
  const embeddings = `${fresh.url}/v1/vector_stores/${id}/embeddings`;
  const lines = ["one", "two", "three"].map((content) => JSON.stringify({ id: content, content }));
  const ndjson = { ...authorization, "content-type": "application/x-ndjson" };
  expect((await send(`${embeddings}/ingest`, "POST", lines.join("\n"), ndjson)).status).toBe(200);
  // A busy machine may take longer than a scrape waits.
  await expect.poll(async () => (await scrape(fresh.url))["pgquiver_database_up"], PATIENCE).toBe(1);
  const samples = await scrape(fresh.url);
  expect(samples).toMatchObject({
    pgquiver_ingest_rows_total: 3,
    pgquiver_ingest_memory_bytes: 0,
    pgquiver_embedding_texts_total: 3,
    pgquiver_embedding_duration_seconds_count: 1,
    pgquiver_database_up: 1,
    pgquiver_embeddings: 3,
    pgquiver_usage_bytes: 11,
    'pgquiver_vector_stores{index_state="none"}': 1,
    'pgquiver_vector_stores{index_state="ready"}': 0,
    'pgquiver_calls_open{kind="stream"}': 0,
  });
  expect(samples["process_resident_memory_bytes"]).toBeGreaterThan(0);
});

test("say that the database is away, and nothing of what it holds", async () => {
  await using ill = await startServer({ apiKeys: [key] });
  await ill.database.pool.query("alter table vector_stores rename to elsewhere");
  const samples = await scrape(ill.url);
  expect(samples["pgquiver_database_up"]).toBe(0);
  expect(Object.keys(samples).filter((name) => name.startsWith("pgquiver_vector_stores"))).toEqual([]);
  expect(samples).not.toHaveProperty("pgquiver_embeddings");
});

test("are those that docs/operations.md lists, with what they say of themselves", async () => {
  const { text } = await send(`${server.url}/metrics`, "GET", undefined, authorization);
  const exposed = [...text.matchAll(/^# HELP (pgquiver_\w+) (.*)$/gm)].map(([, name, help]) => [name, help]);
  const docs = readFileSync(join(root, "docs/operations.md"), "utf8");
  const listed = [...docs.matchAll(/^\| `(pgquiver_\w+)(?:\{[\w, ]*\})?` \| (.*?) \|$/gm)].map(
    ([, name, help]) => [name, help],
  );
  // Those of replicas, of the reranking model and of a cluster are there when these are.
  const absent =
    server.database.citus === undefined ? /^pgquiver_(?:replica|rerank|citus)/ : /^pgquiver_re(?:plica|rank)/;
  const always = listed.filter(([name]) => !absent.test(String(name)));
  expect(Object.fromEntries(always)).toEqual(Object.fromEntries(exposed));
});

/** The expressions of a file under deploy/, wherever in it they are. */
function expressionsOf(file: string): string[] {
  const found: string[] = [];
  // JSON is YAML.
  const visit = (value: unknown) => {
    if (typeof value !== "object" || value === null) return;
    for (const [name, inner] of Object.entries(value))
      if (name === "expr") found.push(String(inner));
      else visit(inner);
  };
  visit(parse(readFileSync(join(root, file), "utf8")));
  return found;
}

/** Labels that Prometheus adds to what it scrapes, and that of a histogram's buckets. */
const LABELS_OF_PROMETHEUS = ["job", "instance", "le"];

test.each(["deploy/prometheus/alerts.yaml", "deploy/grafana/pgquiver.json"])(
  "have the names and labels that %s reads",
  async (file) => {
    const { text } = await send(`${server.url}/metrics`, "GET", undefined, authorization);
    const docs = readFileSync(join(root, "docs/operations.md"), "utf8");
    // Those of replicas and of the reranking model are not exposed here, and not every label has a value yet.
    const listed = [...docs.matchAll(/^\| `(pgquiver_\w+)(?:\{([\w, ]*)\})?` \|/gm)];
    const known = new Set(listed.map(([, name]) => name as string));
    for (const [, name, type] of text.matchAll(/^# TYPE (\w+) (\w+)$/gm)) {
      known.add(name as string);
      if (type === "histogram") known.add(`${name}_bucket`);
    }
    known.add("pgquiver_rerank_duration_seconds_bucket");
    const labels = new Set(LABELS_OF_PROMETHEUS);
    for (const [, , list] of listed) for (const label of list?.split(", ") ?? []) labels.add(label);

    const reads = expressionsOf(file).map(readPromql);
    expect(reads.length).toBeGreaterThan(20);
    for (const read of reads) expect(read.metrics.size).toBeGreaterThan(0);
    expect(reads.flatMap((read) => [...read.metrics].filter((name) => !known.has(name)))).toEqual([]);
    expect(reads.flatMap((read) => [...read.labels].filter((label) => !labels.has(label)))).toEqual([]);
  },
);
