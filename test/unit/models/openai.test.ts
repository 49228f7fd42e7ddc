import { Code } from "@connectrpc/connect";
import { describe, expect, test, vi } from "vitest";
import { KEY, embedderAt, failureOf, never } from "../../support/servers/embedder.ts";
import { startEmbeddingServer, vectorOf } from "../../support/servers/embedding-server.ts";

describe("a request", () => {
  test("carries the model, the texts and the key, and nothing that was not asked for", async () => {
    await using server = await startEmbeddingServer();
    await embedderAt(server.url).embed(["one", "two words"], never);
    expect(server.requests[0]?.body).toEqual({ model: "test-embedding", input: ["one", "two words"] });
    expect(server.requests[0]?.headers.authorization).toBe(`Bearer ${KEY}`);
  });

  test("has no authorization header without a key", async () => {
    await using server = await startEmbeddingServer();
    await embedderAt(server.url, { apiKey: "" }).embed(["one"], never);
    expect(server.requests[0]?.headers.authorization).toBeUndefined();
  });

  test("sends none of the OPENAI_ keys of the process, but its OPENAI_CUSTOM_HEADERS, and logs nothing", async () => {
    await using server = await startEmbeddingServer();
    const variables = {
      OPENAI_BASE_URL: "http://127.0.0.1:1",
      OPENAI_API_KEY: "sk-of-the-clients",
      OPENAI_ADMIN_KEY: "sk-admin",
      OPENAI_ORG_ID: "org-x",
      OPENAI_PROJECT_ID: "proj-x",
      OPENAI_CUSTOM_HEADERS: "x-custom: 1",
      OPENAI_LOG: "debug",
    };
    for (const [name, value] of Object.entries(variables)) vi.stubEnv(name, value);
    const written = (["debug", "info", "warn", "error", "log"] as const).map((name) =>
      vi.spyOn(console, name),
    );
    try {
      server.next({ status: 500, headers: { "retry-after-ms": "1" } });
      await embedderAt(server.url, { retriesMax: 1 }).embed(["one"], never);
      for (const spy of written) expect(spy).not.toHaveBeenCalled();
    } finally {
      vi.unstubAllEnvs();
      vi.restoreAllMocks();
    }
    const { headers } = server.requests[1] ?? expect.unreachable();
    expect(headers.authorization).toBe(`Bearer ${KEY}`);
    expect(headers).toMatchObject({ "user-agent": "pgquiver", "x-custom": "1" });
    expect(Object.keys(headers).filter((name) => name.startsWith("openai-"))).toEqual([]);
    expect(JSON.stringify(headers)).not.toMatch(/sk-of-the-clients|sk-admin|org-x|proj-x/);
  });

  test.each([
    ["openai/text-embedding-3-small", "text-embedding-3-small"],
    ["litellm_proxy/bge-m3", "bge-m3"],
    ["BAAI/bge-m3", "BAAI/bge-m3"],
  ])("names the model %s as %s", async (configured, sent) => {
    await using server = await startEmbeddingServer();
    const embedder = embedderAt(server.url, { model: configured });
    await embedder.embed(["one"], never);
    expect(embedder.model).toBe(sent);
    expect(server.requests[0]?.body.model).toBe(sent);
  });

  test.each([
    { sendDimensions: "auto", model: "openai/text-embedding-3-large", sent: 8 },
    { sendDimensions: "auto", model: "text-embedding-ada-002", sent: undefined },
    { sendDimensions: true, model: "text-embedding-ada-002", sent: 8 },
    { sendDimensions: false, model: "text-embedding-3-large", sent: undefined },
  ] as const)("has dimensions $sent with sendDimensions $sendDimensions for $model", async (row) => {
    await using server = await startEmbeddingServer();
    const { sendDimensions, model } = row;
    await embedderAt(server.url, { dimensions: 8, sendDimensions, model }).embed(["one"], never);
    expect(server.requests[0]?.body.dimensions).toBe(row.sent);
  });

  test.each(["float", "base64"] as const)("asks for %s if told to, and reads it", async (encodingFormat) => {
    await using server = await startEmbeddingServer();
    const { vectors } = await embedderAt(server.url, { encodingFormat }).embed(["one"], never);
    expect(server.requests[0]?.body.encoding_format).toBe(encodingFormat);
    expect(vectors).toEqual([vectorOf("one", 8)]);
  });
});

describe("the base URL", () => {
  test.each([
    ["", "/v1/embeddings"],
    ["/", "/v1/embeddings"],
    ["/v1", "/v1/embeddings"],
    ["/v1/", "/v1/embeddings"],
    ["/openai/v1/?api-version=preview", "/openai/v1/embeddings?api-version=preview"],
  ])("with the path '%s' leads to %s", async (path, expected) => {
    await using server = await startEmbeddingServer({ paths: [expected] });
    await embedderAt(server.url + path).embed(["one"], never);
    expect(server.paths).toEqual([expected]);
  });

  test("without a path falls back to /embeddings where /v1 does not exist, and remembers it", async () => {
    await using server = await startEmbeddingServer({ paths: ["/embeddings"] });
    const embedder = embedderAt(server.url);
    await embedder.embed(["one"], never);
    await embedder.embed(["two"], never);
    expect(server.paths).toEqual(["/v1/embeddings", "/embeddings", "/embeddings"]);
  });

  test("without a path works for batches that find out at the same time", async () => {
    await using server = await startEmbeddingServer({ paths: ["/embeddings"] });
    const texts = ["a", "b", "c", "d", "e", "f"];
    const { vectors } = await embedderAt(server.url, { batchTextsMax: 1 }).embed(texts, never);
    expect(vectors).toEqual(texts.map((text) => vectorOf(text, 8)));
  });

  test("that leads nowhere is refused with the provider's words", async () => {
    await using server = await startEmbeddingServer({ paths: [] });
    const failure = await failureOf(embedderAt(server.url).embed(["one"], never));
    expect(failure).toMatchObject({ code: Code.InvalidArgument, reason: "EMBEDDING_PROVIDER_REFUSED" });
    expect(failure.message).toContain("Not Found");
  });

  test("is not doubted because the model is unknown", async () => {
    await using server = await startEmbeddingServer();
    server.always({ status: 404, body: { error: { message: "The model `x` does not exist." } } });
    const failure = await failureOf(embedderAt(server.url).embed(["one"], never));
    expect(failure.message).toContain("The model `x` does not exist.");
    expect(server.paths).toEqual(["/v1/embeddings"]);
  });
});

describe("batches", () => {
  test("of no texts make no request", async () => {
    await using server = await startEmbeddingServer();
    expect(await embedderAt(server.url).embed([], never)).toEqual({ vectors: [], tokens: 0 });
    expect(server.paths).toEqual([]);
  });

  test("hold so many texts, keep the order and add up the tokens", async () => {
    await using server = await startEmbeddingServer();
    // The first answer comes last.
    server.next({ delayMs: 50 });
    const texts = Array.from({ length: 7 }, (_, i) => `text ${i}`);
    const reply = await embedderAt(server.url, { batchTextsMax: 3 }).embed(texts, never);
    expect(server.requests.map(({ body }) => body.input.length).toSorted((a, b) => a - b)).toEqual([1, 3, 3]);
    expect(reply.vectors).toEqual(texts.map((text) => vectorOf(text, 8)));
    expect(reply.tokens).toBe(14);
  });

  test("hold no more than 300,000 bytes, counted in UTF-8, but at least one text", async () => {
    await using server = await startEmbeddingServer();
    const sizes = [100_000, 100_000, 100_000, 1, 400_000, 1];
    const texts = sizes.map((size) => "ä".repeat(size / 2) + "a".repeat(size % 2));
    await embedderAt(server.url, { concurrency: 1 }).embed(texts, never);
    expect(server.requests.map(({ body }) => body.input.length)).toEqual([3, 1, 1, 1]);
  });

  test("of all calls together are bounded in number", async () => {
    await using server = await startEmbeddingServer();
    server.always({ delayMs: 5 });
    const embedder = embedderAt(server.url, { batchTextsMax: 1, concurrency: 2 });
    const texts = ["a", "b", "c", "d"];
    await Promise.all([embedder.embed(texts, never), embedder.embed(texts, never)]);
    expect(server.requests).toHaveLength(8);
    expect(server.concurrencyMax).toBe(2);
  });

  test("are all ended by the first failure", async () => {
    await using server = await startEmbeddingServer();
    server.next({ fault: "silence" });
    server.next({ status: 400, body: { error: { message: "no" } }, delayMs: 20 });
    const embedder = embedderAt(server.url, { batchTextsMax: 1, concurrency: 2 });
    const failure = await failureOf(embedder.embed(["a", "b", "c", "d"], never));
    expect(failure.reason).toBe("EMBEDDING_PROVIDER_REFUSED");
    expect(server.requests).toHaveLength(2);
    expect(await server.requests[0]?.abandoned).toBe(true);
  });
});

describe("a reply", () => {
  test.each([
    ["as numbers", { form: "float" }],
    ["as base64", { form: "base64" }],
    ["in another order", { shuffled: true }],
    ["without indexes", { unindexed: true }],
  ] as const)("is read %s", async (_, behaviour) => {
    await using server = await startEmbeddingServer();
    server.always(behaviour);
    const texts = ["one", "two", "three"];
    const { vectors } = await embedderAt(server.url, { dimensions: 8 }).embed(texts, never);
    expect(vectors).toEqual(texts.map((text) => vectorOf(text, 8)));
  });

  test.each([
    ["a vector too few", { missing: 1 }, "2 embeddings for 3 texts"],
    ["a null, JSON's NaN", { firstNumber: "null" }, "neither an array of numbers"],
    ["a number too large", { firstNumber: "1e999" }, "not finite"],
    ["a number too large for float32", { firstNumber: "1e39" }, "not finite"],
    ["a number as a text", { firstNumber: '"0.1"' }, "neither an array of numbers"],
    ["an index twice", { data: [0, 1, 1].map((index) => ({ index, embedding: [1] })) }, "twice"],
    [
      "an index out of range",
      { data: [1, 2, 3].map((index) => ({ index, embedding: [1] })) },
      "out of range",
    ],
    [
      "no vector",
      { data: [{ index: 0 }, { index: 1 }, { index: 2 }] },
      "neither an array of numbers nor base64",
    ],
    ["an empty vector", { data: [1, 2, 3].map(() => ({ embedding: [] })) }, "empty"],
    ["half a number in base64", { data: [1, 2, 3].map(() => ({ embedding: "AACAPwA=" })) }, "not base64"],
    [
      "vectors of two lengths",
      { data: [[1], [1], [1, 2]].map((embedding) => ({ embedding })) },
      "1 and 2 dimensions",
    ],
    ["no list", { body: { object: "list" } }, "not a list"],
    ["a null", { body: null }, "not a list"],
    ["a web page", { body: "<html>", headers: { "content-type": "text/html" } }, "not a list"],
    ["broken JSON", { body: '{"data":[' }, "cannot be read"],
  ])("with %s is an error", async (_, behaviour, message) => {
    await using server = await startEmbeddingServer();
    server.always(behaviour);
    const failure = await failureOf(embedderAt(server.url).embed(["one", "two", "three"], never));
    expect(failure).toMatchObject({
      code: Code.Unavailable,
      reason: "EMBEDDING_PROVIDER_UNAVAILABLE",
      retryAfterMs: null,
    });
    expect(failure.message).toContain(message);
  });

  test("of two lengths in two batches is an error", async () => {
    await using server = await startEmbeddingServer();
    server.next({ dimensions: 4 });
    const failure = await failureOf(
      embedderAt(server.url, { batchTextsMax: 1 }).embed(["one", "two"], never),
    );
    expect(failure.reason).toBe("EMBEDDING_PROVIDER_UNAVAILABLE");
  });

  test("of another length than configured names both and the setting", async () => {
    await using server = await startEmbeddingServer({ dimensions: 768 });
    const failure = await failureOf(embedderAt(server.url, { dimensions: 1536 }).embed(["one"], never));
    expect(failure).toMatchObject({ code: Code.FailedPrecondition, reason: "DIMENSION_MISMATCH" });
    for (const part of ["768", "1536", "EMBEDDING__DIMENSIONS"]) expect(failure.message).toContain(part);
  });
});
