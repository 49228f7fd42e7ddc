import { Code, ConnectError, createClient, type Client } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { describe, expect, onTestFinished, test } from "vitest";
import { EmbeddingService } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { SearchService } from "../../../gen/pgquiver/v1/search_pb.ts";
import type { OpenAIEmbedderOptions } from "../../../src/models/openai.ts";
import { describeError, type Reason } from "../../../src/errors.ts";
import { openTestDatabase, type TestDatabase } from "../../support/databases/database.ts";
import { embedderAt, KEY } from "../../support/servers/embedder.ts";
import {
  startEmbeddingServer,
  vectorOf,
  type Behaviour,
  type EmbeddingServer,
} from "../../support/servers/embedding-server.ts";
import { jsonClient, type Json, type Send } from "../../support/clients/json.ts";
import { startServer } from "../../support/servers/server.ts";

const STORE = "store";
const PATH = `/v1/vector_stores/${STORE}`;

/** A service whose texts are embedded by a provider, with a store that holds one vector of its caller's. */
interface Setting {
  url: string;
  database: TestDatabase;
  provider: EmbeddingServer;
  send: Send;
  embeddings: Client<typeof EmbeddingService>;
  search: Client<typeof SearchService>;
}

async function start(options: Partial<OpenAIEmbedderOptions> = {}): Promise<Setting> {
  const provider = await startEmbeddingServer();
  const database = await openTestDatabase();
  const server = await serve(database, provider, options);
  onTestFinished(async () => {
    await server.close();
    await provider.stop();
    await database.close();
  });
  await server.send("POST", "/v1/vector_stores", { id: STORE });
  const own = { id: "own", content: "mine", embedding: [1, 0, 0, 0, 0, 0, 0, 0] };
  expect((await server.send("POST", `${PATH}/embeddings`, own)).status).toBe(200);
  return { ...server, database, provider };
}

async function serve(
  database: TestDatabase,
  provider: EmbeddingServer,
  options: Partial<OpenAIEmbedderOptions>,
) {
  const server = await startServer({ database, embedder: embedderAt(provider.url, options) });
  const transport = createGrpcTransport({ baseUrl: server.url });
  return {
    url: server.url,
    send: jsonClient(server.url),
    embeddings: createClient(EmbeddingService, transport),
    search: createClient(SearchService, transport),
    close: () => server[Symbol.asyncDispose](),
  };
}

const BATCH = { embeddings: [{ content: "one" }, { content: "two words" }] };
const BODIES = { embeddings: { content: "one" }, "embeddings/batch": BATCH, search: { query: "one" } };

/** The three requests that need the provider, over REST. */
function restCalls({ send }: Setting, id = STORE) {
  return Object.entries(BODIES).map(
    ([route, body]) =>
      async () =>
        send("POST", `/v1/vector_stores/${id}/${route}`, body),
  );
}

/** The same over gRPC; each gives its error. */
function grpcCalls({ embeddings, search }: Setting, id = STORE) {
  const calls = [
    () => embeddings.createEmbedding({ vectorStoreId: id, embedding: { content: "one" } }),
    () => embeddings.batchCreateEmbeddings({ vectorStoreId: id, ...BATCH }),
    () => search.search({ vectorStoreId: id, query: ["one"] }),
  ];
  return calls.map((call) => async () => {
    const error: unknown = await call().catch((reason: unknown) => reason);
    if (!(error instanceof ConnectError)) return expect.unreachable("the call succeeded");
    return { code: error.code, message: error.rawMessage, ...describeError(error) };
  });
}

/** What is in the store, by its rows and by its own account. */
async function countStored({ database }: Setting): Promise<{ rows: number; counted: number }> {
  const { rows } = await database.pool.query(
    `select (select count(*)::int from embeddings where vector_store_id = $1) as rows,
       (file_counts ->> 'total')::int as counted from vector_stores where id = $1`,
    [STORE],
  );
  return rows[0];
}

const ONLY_OWN = { rows: 1, counted: 1 };

interface Expected {
  status: number;
  code: Code;
  reason: Reason;
  message: RegExp;
  /** Seconds of the Retry-After; undefined: trying again is of no use. */
  retryAfter?: number;
}

/** Checks that all six calls fail as expected, store nothing, and tell nothing of the key. */
async function expectFailures(setting: Setting, expected: Expected): Promise<void> {
  const { status, code, reason, message, retryAfter } = expected;
  const [rest, grpc] = await Promise.all([
    Promise.all(restCalls(setting).map((call) => call())),
    Promise.all(grpcCalls(setting).map((call) => call())),
  ]);
  for (const { headers, ...reply } of rest) {
    expect(reply).toMatchObject({
      status,
      json: { error: { message: expect.stringMatching(message), code: reason.toLowerCase() } },
    });
    expect(headers.get("retry-after")).toBe(retryAfter?.toString() ?? null);
    expect(headers.get("x-should-retry")).toBe(retryAfter === undefined ? "false" : null);
  }
  for (const error of grpc) {
    const retryAfterMs = retryAfter === undefined ? null : retryAfter * 1000;
    expect(error).toMatchObject({ code, reason, retryAfterMs, message: expect.stringMatching(message) });
  }
  expect(JSON.stringify([rest, grpc])).not.toContain(KEY);
  expect(await countStored(setting)).toEqual(ONLY_OWN);
}

async function expectWorking(setting: Setting): Promise<void> {
  for (const call of restCalls(setting)) expect((await call()).status).toBe(200);
  expect(await countStored(setting)).toEqual({ rows: 4, counted: 4 });
}

test("a text is embedded where no vector comes with it, alone, in a batch, and for a search", async () => {
  const setting = await start();
  const { send, provider } = setting;
  const created = await send("POST", `${PATH}/embeddings`, { content: "Grey whales sing" });
  expect(created).toMatchObject({ status: 200, json: { content: "Grey whales sing", embedding: null } });
  await setting.embeddings.batchCreateEmbeddings({
    vectorStoreId: STORE,
    embeddings: [{ content: "Apple pie" }, { content: "given", embedding: [0, 1, 0, 0, 0, 0, 0, 0] }],
  });
  expect(provider.requests.map(({ body }) => body.input)).toEqual([["Grey whales sing"], ["Apple pie"]]);
  const read = await send("GET", `${PATH}/embeddings/${String(created.json["id"])}`);
  expect(read.json["embedding"]).toEqual(Array.from(vectorOf("Grey whales sing", 8)));
  const found = await send("POST", `${PATH}/search`, { query: ["sing grey whales", "apple pie"] });
  expect((found.json["data"] as Json[]).slice(0, 2)).toMatchObject([
    { score: expect.closeTo(1, 6) },
    { score: expect.closeTo(1, 6) },
  ]);
  expect(found.json["usage"]).toEqual({ total_tokens: 5 });
  expect(provider.requests).toHaveLength(3);
  const { json } = await send("GET", PATH);
  expect(json).toMatchObject({ embedding_model: "test-embedding", dimensions: 8, file_counts: { total: 4 } });
});

test("an unknown store is 404, and an empty one has no hits, before the provider hears of it", async () => {
  const setting = await start();
  for (const call of restCalls(setting, "vs_none")) expect((await call()).status).toBe(404);
  for (const call of grpcCalls(setting, "vs_none")) expect((await call()).code).toBe(Code.NotFound);
  await setting.send("POST", "/v1/vector_stores", { id: "empty" });
  const found = await setting.send("POST", "/v1/vector_stores/empty/search", { query: "x" });
  expect(found).toMatchObject({ status: 200, json: { data: [] } });
  expect(setting.provider.requests).toHaveLength(0);
});

test("a batch with a fault is refused before the provider hears of it", async () => {
  const { send, provider } = await start();
  for (const fault of [{ content: "" }, { content: "x", id: "a/b" }, { content: "x", embedding: [0] }]) {
    const embeddings = [{ content: "good" }, fault];
    const reply = await send("POST", `${PATH}/embeddings/batch`, { embeddings });
    expect(reply).toMatchObject({
      status: 400,
      json: { error: { param: expect.stringMatching(/^embeddings\[1\]/) } },
    });
  }
  expect(provider.requests).toHaveLength(0);
});

test("texts go out in batches, and each row gets its own vector", async () => {
  const { send, provider, database } = await start({ batchTextsMax: 3 });
  const contents = Array.from({ length: 8 }, (_, index) => `text number ${index}`);
  const embeddings = contents.map((content, index) =>
    index === 4 ? { content, embedding: Array.from(vectorOf("other", 8)) } : { content },
  );
  const reply = await send("POST", `${PATH}/embeddings/batch`, { embeddings });
  expect(reply.status).toBe(200);
  const sizes = provider.requests.map(({ body }) => body.input.length);
  expect(sizes.toSorted((a, b) => a - b)).toEqual([1, 3, 3]);
  const { rows } = await database.pool.query(
    "select content, embedding as vector from embeddings where id <> 'own' order by content",
  );
  const expected = contents.map((content, index) => vectorOf(index === 4 ? "other" : content, 8));
  expect(rows.map((row) => row.content)).toEqual(contents);
  expect(rows.map((row) => Float32Array.from(row.vector))).toEqual(expected);
});

describe("a provider that fails", () => {
  const unavailable = {
    status: 503,
    code: Code.Unavailable,
    reason: "EMBEDDING_PROVIDER_UNAVAILABLE",
  } as const;
  const unusable = { ...unavailable, message: /^The embedding provider's reply cannot be used: .{10,}/ };

  test.each<[string, Behaviour, Expected]>([
    [
      "cuts the connection",
      { fault: "cut" },
      { ...unavailable, message: /cannot be reached/, retryAfter: 1 },
    ],
    [
      "cuts its answer",
      { fault: "cut body" },
      { ...unavailable, message: /cannot be reached/, retryAfter: 1 },
    ],
    ["answers 500", { status: 500, body: {} }, { ...unavailable, message: /HTTP status 500/, retryAfter: 1 }],
    [
      "answers 429",
      { status: 429, headers: { "retry-after": "7" }, body: { error: { message: "Slow down." } } },
      {
        status: 429,
        code: Code.ResourceExhausted,
        reason: "RATE_LIMIT_EXCEEDED",
        message: /rate limit is exceeded: Slow down\./,
        retryAfter: 7,
      },
    ],
    [
      "answers 400",
      { status: 400, body: { error: { message: `Input is too long for key ${KEY}` } } },
      {
        status: 400,
        code: Code.InvalidArgument,
        reason: "EMBEDDING_PROVIDER_REFUSED",
        message: /^The embedding provider refused the request: Input is too long/,
      },
    ],
    [
      "refuses the service's key",
      { status: 401, body: { error: { message: `Incorrect API key provided: ${KEY}` } } },
      { ...unavailable, message: /refused the service's key \(EMBEDDING__API_KEY\)/ },
    ],
    ["sends a number that is none", { firstNumber: "null" }, unusable],
    ["sends a number beyond all bounds", { firstNumber: "1e999" }, unusable],
    ["sends a text for a number", { firstNumber: '"0.1"' }, unusable],
    ["sends too few vectors", { missing: 1 }, unusable],
    ["sends empty vectors", { dimensions: 0 }, unusable],
    ["sends no list", { data: "none" }, unusable],
    ["sends what is no JSON", { body: "<html>" }, { ...unavailable, message: /cannot be (?:read|used)/ }],
  ])(
    "%s: an error that says so, nothing stored, and the next call works",
    async (_case, behaviour, expected) => {
      const setting = await start();
      setting.provider.always(behaviour);
      await expectFailures(setting, expected);
      setting.provider.always({});
      await expectWorking(setting);
    },
  );

  test.each(["silence", "headers"] as const)(
    "is too slow (%s): an error that says how long it was waited for",
    async (fault) => {
      // All six calls are in flight at once: who waits for a turn is refused otherwise.
      const setting = await start({ timeoutMs: 2_000, concurrency: 6 });
      setting.provider.always({ fault });
      const reason = "DEADLINE_EXCEEDED";
      const message = /provider did not answer within (?:2000|19\d\d) ms/;
      await expectFailures(setting, { status: 504, code: Code.DeadlineExceeded, reason, message });
      setting.provider.always({});
      await expectWorking(setting);
    },
  );

  test("is down: an error that says so, and vectors that callers bring still go in", async () => {
    const setting = await start();
    await setting.provider.stop();
    await expectFailures(setting, { ...unavailable, message: /cannot be reached/, retryAfter: 1 });
    const body = { content: "mine too", embedding: [0, 1, 0, 0, 0, 0, 0, 0] };
    expect((await setting.send("POST", `${PATH}/embeddings`, body)).status).toBe(200);
    expect((await setting.send("POST", `${PATH}/search`, { embedding: body.embedding })).status).toBe(200);
  });

  test("sends other lengths than are set: an error that names both, the model and the setting", async () => {
    const setting = await start({ dimensions: 8 });
    setting.provider.always({ dimensions: 5 });
    await expectFailures(setting, {
      status: 400,
      code: Code.FailedPrecondition,
      reason: "DIMENSION_MISMATCH",
      message: /'test-embedding' returned 5 dimensions, but EMBEDDING__DIMENSIONS is 8/,
    });
    setting.provider.always({});
    await expectWorking(setting);
  });

  test("sends other lengths than the store has: an error that names both and the store", async () => {
    const setting = await start();
    setting.provider.always({ dimensions: 5 });
    await expectFailures(setting, {
      status: 400,
      code: Code.InvalidArgument,
      reason: "DIMENSION_MISMATCH",
      message: new RegExp(`vector store '${STORE}' holds vectors of 8 dimensions, but got 5`),
    });
    setting.provider.always({});
    await expectWorking(setting);
  });

  test("fails once and is asked again after the time it names", async () => {
    const setting = await start({ retriesMax: 1 });
    setting.provider.next({ status: 429, headers: { "retry-after-ms": "20" }, body: {} });
    const [create] = restCalls(setting);
    expect((await create?.())?.status).toBe(200);
    expect(setting.provider.requests).toHaveLength(2);
  });

  test("fails in the middle of a batch: nothing of the batch is stored", async () => {
    const setting = await start({ batchTextsMax: 1, concurrency: 1 });
    setting.provider.next({}, 2);
    setting.provider.next({ status: 500, body: {} });
    const embeddings = ["one", "two", "three", "four"].map((content) => ({ content }));
    expect((await setting.send("POST", `${PATH}/embeddings/batch`, { embeddings })).status).toBe(503);
    expect(setting.provider.requests).toHaveLength(3);
    expect(await countStored(setting)).toEqual(ONLY_OWN);
  });
});

describe("a caller who gives up", () => {
  async function expectAbandoned(call: (setting: Setting, signal: AbortSignal) => Promise<unknown>) {
    // Longer than a test may take, so that it is not the timeout that ends the provider's work.
    const setting = await start({ timeoutMs: 300_000 });
    const { provider } = setting;
    provider.always({ fault: "silence" });
    const gone = new AbortController();
    const outcome = call(setting, gone.signal).catch((error: unknown) => error);
    await provider.received(1);
    gone.abort();
    expect(await outcome).toBeInstanceOf(Error);
    expect(await provider.requests[0]?.abandoned).toBe(true);
    expect(await countStored(setting)).toEqual(ONLY_OWN);
    provider.always({});
    await expectWorking(setting);
  }

  test.each(Object.entries(BODIES))("ends the provider's work too, over REST: %s", async (route, body) => {
    const headers = { "content-type": "application/json" };
    const request = { method: "POST", headers, body: JSON.stringify(body) };
    await expectAbandoned(async ({ url }, signal) => fetch(`${url}${PATH}/${route}`, { ...request, signal }));
  });

  test("ends the provider's work too, over gRPC", async () => {
    const request = { vectorStoreId: STORE, ...BATCH };
    await expectAbandoned(({ embeddings }, signal) => embeddings.batchCreateEmbeddings(request, { signal }));
  });
});

test("a store embedded by another model takes and finds callers' vectors, but no text", async () => {
  const setting = await start();
  await expectWorking(setting);
  const before = setting.provider.requests.length;
  const other = await serve(setting.database, setting.provider, { model: "other-embedding" });
  onTestFinished(other.close);
  const changed = { ...setting, ...other };
  const message =
    /embedded with model 'test-embedding', but the service is set to 'other-embedding' \(EMBEDDING__MODEL\)/;
  for (const call of restCalls(changed)) {
    const { status, json } = await call();
    expect(status).toBe(400);
    expect(json["error"]).toMatchObject({
      code: "embedding_model_mismatch",
      message: expect.stringMatching(message),
    });
  }
  for (const call of grpcCalls(changed)) {
    expect(await call()).toMatchObject({
      code: Code.FailedPrecondition,
      reason: "EMBEDDING_MODEL_MISMATCH",
      message: expect.stringMatching(message),
    });
  }
  expect(setting.provider.requests).toHaveLength(before);
  const vector = Array.from(vectorOf("anything", 8));
  const added = await other.send("POST", `${PATH}/embeddings`, {
    id: "new",
    content: "x",
    embedding: vector,
  });
  expect(added.status).toBe(200);
  const found = await other.send("POST", `${PATH}/search`, { embedding: vector, max_num_results: 1 });
  expect(found.json["data"]).toMatchObject([{ id: "new", score: expect.closeTo(1, 6) }]);
  expect(await countStored(setting)).toEqual({ rows: 5, counted: 5 });
});
