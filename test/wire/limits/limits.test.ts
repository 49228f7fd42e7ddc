import { Code, ConnectError, createClient } from "@connectrpc/connect";
import {
  createGrpcTransport,
  createGrpcWebTransport,
  createConnectTransport,
} from "@connectrpc/connect-node";
import { Client as GrpcClient, credentials, Metadata, type ServiceError } from "@grpc/grpc-js";
import OpenAI from "openai";
import { afterAll, describe, expect, test } from "vitest";
import {
  ErrorInfoSchema,
  QuotaFailureSchema,
  RetryInfoSchema,
} from "../../../gen/google/rpc/error_details_pb.ts";
import { VectorStoreService } from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import type { Limits } from "../../../src/api/rates/limits.ts";
import type { Embedder } from "../../../src/models/embedder.ts";
import { createLexicalEmbedder } from "../../../src/models/lexical.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { send } from "../../support/clients/http.ts";
import { openIngest } from "../../support/clients/ingest-session.ts";
import { makeProject, makeTestKey } from "../../support/stores/keys.ts";
import { startServer } from "../../support/servers/server.ts";

const root = "a-key-of-the-environment";
const database = await openTestDatabase();
const server = await startServer({ database, apiKeys: [root] });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
});

const json = { "content-type": "application/json" };
const by = (key: string) => ({ authorization: `Bearer ${key}` });
const ask = async (key: string, verb: string, path: string, body?: object) => {
  const text = body === undefined ? undefined : JSON.stringify(body);
  const reply = await send(`${server.url}/v1${path}`, verb, text, { ...by(key), ...(body && json) });
  return { ...reply, body: JSON.parse(reply.text) };
};

/** Makes a project with limits, and a key for it with limits of its own. */
async function makeLimited(limits: Limits, ofKey: Limits | null = null) {
  const { body: project } = await ask(root, "POST", "/organization/projects", { name: "Team", limits });
  expect(project).toMatchObject({ limits });
  const key = await makeTestKey(database, project.id, undefined, null, ofKey);
  return { project: project.id as string, key };
}

const list = (key: string) => ask(key, "GET", "/vector_stores");

describe("requests per minute", () => {
  test("are counted, shown and refused, before the body is read", async () => {
    const { project, key } = await makeLimited({ max_requests_per_1_minute: 2 });
    const first = await list(key);
    expect(first.status).toBe(200);
    expect(first.headers.get("x-ratelimit-limit-requests")).toBe("2");
    expect(first.headers.get("x-ratelimit-remaining-requests")).toBe("1");
    expect(first.headers.get("x-ratelimit-reset-requests")).toMatch(/^(30|29\.\d+)s$/);
    await list(key);
    // Not JSON: the refusal comes before anybody reads it.
    const refused = await send(`${server.url}/v1/vector_stores`, "POST", "{", { ...by(key), ...json });
    expect(refused.status).toBe(429);
    expect(JSON.parse(refused.text)).toEqual({
      error: {
        message: expect.stringMatching(
          new RegExp(
            `^Rate limit reached for project '${project}': 2 requests per minute. Please try again in [\\d.]+s.$`,
          ),
        ),
        type: "rate_limit_error",
        param: null,
        code: "rate_limit_exceeded",
      },
    });
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(20);
    expect(refused.headers.get("x-ratelimit-remaining-requests")).toBe("0");
    expect(refused.headers.get("x-ratelimit-reset-requests")).toMatch(/^(1m0s|\d\d(\.\d+)?s)$/);
    const { text } = await send(`${server.url}/metrics`, "GET", undefined, by(root));
    expect(text).toMatch(/^pgquiver_limited_total\{limit="max_requests_per_1_minute"\} \d+$/m);
  });

  test("of a key are its own, within those of the project", async () => {
    const { project, key } = await makeLimited(
      { max_requests_per_1_minute: 3 },
      { max_requests_per_1_minute: 1 },
    );
    const other = await makeTestKey(database, project);
    expect((await list(key)).headers.get("x-ratelimit-limit-requests")).toBe("1");
    const refused = await list(key);
    expect(refused.status).toBe(429);
    expect(refused.body.error.message).toMatch(/for key 'key_\w+': 1 requests/);
    // The refused request of the one key is no request of the project.
    expect((await list(other)).headers.get("x-ratelimit-remaining-requests")).toBe("1");
    expect((await list(other)).status).toBe(200);
    expect((await list(other)).body.error.message).toContain(`for project '${project}': 3 requests`);
  });

  const transports = [
    ["gRPC", createGrpcTransport({ baseUrl: server.url })],
    ["gRPC-Web", createGrpcWebTransport({ baseUrl: server.url, httpVersion: "2" })],
    ["Connect", createConnectTransport({ baseUrl: server.url, httpVersion: "1.1" })],
  ] as const;
  test.each(transports)("over %s carry headers, RetryInfo and QuotaFailure", async (_, transport) => {
    const { project, key } = await makeLimited({ max_requests_per_1_minute: 1 });
    const client = createClient(VectorStoreService, transport);
    const headers = by(key);
    let sent: Headers | undefined;
    await client.listVectorStores({}, { headers, onHeader: (all) => (sent = all) });
    expect(sent?.get("x-ratelimit-limit-requests")).toBe("1");
    expect(sent?.get("x-ratelimit-remaining-requests")).toBe("0");
    const error = await client.listVectorStores({}, { headers }).then(
      () => expect.unreachable(),
      (reason: unknown) => ConnectError.from(reason),
    );
    expect(error.code).toBe(Code.ResourceExhausted);
    expect(error.findDetails(ErrorInfoSchema)).toMatchObject([
      { reason: "RATE_LIMIT_EXCEEDED", metadata: { limit: "max_requests_per_1_minute" } },
    ]);
    expect(error.findDetails(QuotaFailureSchema)).toMatchObject([
      { violations: [{ subject: `project:${project}`, description: error.rawMessage }] },
    ]);
    const [retry] = error.findDetails(RetryInfoSchema);
    expect(Number(retry?.retryDelay?.seconds)).toBeGreaterThan(20);
    expect(error.metadata.get("x-ratelimit-remaining-requests")).toBe("0");
    expect(Number(error.metadata.get("retry-after"))).toBeGreaterThan(20);
  });

  test("are in the metadata that grpc-js shows", async () => {
    const { key } = await makeLimited({ max_requests_per_1_minute: 1 });
    const client = new GrpcClient(server.address, credentials.createInsecure());
    const call = () => {
      const metadata = new Metadata();
      metadata.set("authorization", `Bearer ${key}`);
      const path = "/pgquiver.v1.VectorStoreService/ListVectorStores";
      const done = Promise.withResolvers<ServiceError | null>();
      client.makeUnaryRequest(
        path,
        () => Buffer.alloc(0),
        (bytes: Buffer) => bytes,
        null,
        metadata,
        (error) => done.resolve(error),
      );
      return done.promise;
    };
    expect(await call()).toBeNull();
    const error = await call();
    expect(error?.code).toBe(8);
    expect(error?.metadata.get("x-ratelimit-limit-requests")).toEqual(["1"]);
    expect(error?.metadata.get("x-ratelimit-reset-requests")[0]).toMatch(/^(1m0s|\d\d(\.\d+)?s)$/);
    client.close();
  });

  test("are waited for by OpenAI's client", async () => {
    const { key } = await makeLimited({ max_requests_per_1_minute: 60 });
    const statuses: number[] = [];
    const client = new OpenAI({
      apiKey: key,
      baseURL: `${server.url}/v1`,
      maxRetries: 3,
      fetch: async (...call) => {
        const reply = await fetch(...call);
        statuses.push(reply.status);
        return reply;
      },
    });
    for (let call = 0; call < 62; call++) await client.vectorStores.list();
    expect(statuses.filter((status) => status === 200)).toHaveLength(62);
    expect(statuses).toContain(429);
  });

  test("change within a second in another process, and not for callers without a limit", async () => {
    await using replica = await startServer({ database, apiKeys: [root] });
    const project = await makeProject(database);
    const key = await makeTestKey(database, project);
    const onReplica = () => send(`${replica.url}/v1/vector_stores`, "GET", undefined, by(key));
    expect((await onReplica()).headers.get("x-ratelimit-limit-requests")).toBeNull();
    const path = `/organization/projects/${project}`;
    await ask(root, "POST", path, { limits: { max_requests_per_1_minute: 1_000 } });
    await expect
      .poll(async () => (await onReplica()).headers.get("x-ratelimit-limit-requests"), { timeout: 5_000 })
      .toBe("1000");
    const { body } = await ask(root, "POST", path, { name: "Other", limits: {} });
    expect(body).toMatchObject({ name: "Other", limits: null });
    await expect
      .poll(async () => (await onReplica()).headers.get("x-ratelimit-limit-requests"), { timeout: 5_000 })
      .toBeNull();
  });
});

describe("who sets limits", () => {
  test("keys of other projects cannot change those of their project, nor give what they do not have", async () => {
    const { project, key } = await makeLimited({}, { max_rows_per_1_second: 5 });
    const path = `/organization/projects/${project}`;
    expect((await ask(key, "POST", path, { limits: {} })).status).toBe(403);
    expect((await ask(key, "POST", path, { quotas: {} })).status).toBe(403);
    const asked = { name: "k", scopes: ["search"] };
    expect((await ask(key, "POST", `${path}/api_keys`, asked)).status).toBe(403);
    const within = { ...asked, limits: { max_rows_per_1_second: 5 } };
    const { body } = await ask(key, "POST", `${path}/api_keys`, within);
    expect(body).toMatchObject({ limits: { max_rows_per_1_second: 5, max_requests_per_1_minute: null } });
    expect((await ask(key, "POST", `${path}/api_keys/${body.id}`, { limits: {} })).status).toBe(403);
    const changed = await ask(root, "POST", `${path}/api_keys/${body.id}`, { name: "n", limits: {} });
    expect(changed.body).toMatchObject({ name: "n", limits: null });
  });

  test("limits out of range, and those that keys cannot have, are refused", async () => {
    const { project } = await makeLimited({});
    const path = `/organization/projects/${project}`;
    for (const [limits, param] of [
      [{ max_requests_per_1_minute: 0 }, "limits.max_requests_per_1_minute"],
      [{ max_ingest_memory_percent: 101 }, "limits.max_ingest_memory_percent"],
    ] as const) {
      const { status, body } = await ask(root, "POST", path, { limits });
      expect([status, body.error.param]).toEqual([400, param]);
    }
    const key = { name: "k", scopes: ["search"], limits: { max_file_workers: 1 } };
    expect((await ask(root, "POST", `${path}/api_keys`, key)).body.error.param).toBe(
      "limits.max_file_workers",
    );
    expect((await ask(root, "POST", path, {})).body.error.param).toBe("name");
  });
});

describe("rows per second", () => {
  const vector = (n: number) => [n + 1, 1, 1];
  const rows = (count: number) =>
    Array.from({ length: count }, (_, n) => ({ content: "x", embedding: vector(n) }));

  test("of calls are refused when they come too early", async () => {
    const { key } = await makeLimited({ max_rows_per_1_second: 10 });
    await ask(key, "POST", "/vector_stores", { id: "s" });
    const batch = (count: number) =>
      ask(key, "POST", "/vector_stores/s/embeddings/batch", { embeddings: rows(count) });
    // A batch of more rows than fit into a second is let through: the next call waits for them.
    expect((await batch(100)).status).toBe(200);
    const refused = await batch(1);
    expect(refused.status).toBe(429);
    expect(refused.body.error.message).toContain("10 rows per second");
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(5);
    expect((await ask(key, "GET", "/vector_stores/s")).body.embedding_count).toBe(100);
  });

  test("of a stream are waited for", async () => {
    const { key } = await makeLimited({ max_rows_per_1_second: 100 });
    await ask(key, "POST", "/vector_stores", { id: "s" });
    const stream = openIngest(server, key, "s");
    const startedAt = performance.now();
    // 100 rows at once, and 100 a second from then on.
    for (let seq = 1; seq <= 4; seq++) stream.send(seq, rows(50));
    stream.finish(200);
    expect(await stream.summary).toMatchObject({ rowsWritten: 200n });
    const tookMs = performance.now() - startedAt;
    expect(tookMs).toBeGreaterThan(400);
    expect((await ask(key, "GET", "/vector_stores/s")).body.embedding_count).toBe(200);
  });
});

test("searches at the same time are refused above the limit, and free again at their end", async () => {
  const lexical = createLexicalEmbedder(3);
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<void>();
  const embedder: Embedder = {
    ...lexical,
    async embed(texts, signal) {
      asked.resolve();
      await answer.promise;
      return lexical.embed(texts, signal);
    },
  };
  await using slow = await startServer({ database, apiKeys: [root], embedder });
  const { key } = await makeLimited({}, { max_concurrent_searches: 1 });
  const on = (path: string, body: object) =>
    send(`${slow.url}/v1${path}`, "POST", JSON.stringify(body), { ...by(key), ...json });
  await on("/vector_stores", { id: "s" });
  await on("/vector_stores/s/embeddings", { content: "x", embedding: [1, 1, 1] });
  const first = on("/vector_stores/s/search", { query: "x" });
  await asked.promise;
  const refused = await on("/vector_stores/s/search", { embedding: [1, 1, 1] });
  expect([refused.status, refused.text]).toEqual([
    429,
    expect.stringContaining("1 searches at the same time"),
  ]);
  answer.resolve();
  expect((await first).status).toBe(200);
  expect((await on("/vector_stores/s/search", { embedding: [1, 1, 1] })).status).toBe(200);
});

test("streams at the same time are refused above the limit, and free again at their end", async () => {
  const { key } = await makeLimited({ max_concurrent_streams: 1 });
  await ask(key, "POST", "/vector_stores", { id: "s" });
  const stream = openIngest(server, key, "s");
  await stream.opened;
  const refused = await send(`${server.url}/v1/vector_stores/s/embeddings/export`, "GET", undefined, by(key));
  expect(refused.status).toBe(429);
  expect(refused.text).toContain("1 streams at the same time");
  expect(refused.headers.get("retry-after")).toBe("1");
  stream.finish(0);
  await stream.summary;
  const again = await send(`${server.url}/v1/vector_stores/s/embeddings/export`, "GET", undefined, by(key));
  expect(again.status).toBe(200);
});
