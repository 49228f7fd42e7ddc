import { encode } from "gpt-tokenizer/encoding/cl100k_base";
import { NotFoundError, OpenAI } from "openai";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { LEXICAL_MODEL } from "../../src/models/lexical.ts";
import type { OpenAIEmbedderOptions } from "../../src/models/openai.ts";
import { openTestDatabase } from "../support/databases/database.ts";
import { embedderAt } from "../support/servers/embedder.ts";
import { startEmbeddingServer, vectorOf, type EmbeddingServer } from "../support/servers/embedding-server.ts";
import { startServer } from "../support/servers/server.ts";

interface Setting {
  client: OpenAI;
  url: string;
  provider: EmbeddingServer;
}

/** Nothing is stored, so one will do for all. */
const database = await openTestDatabase();
afterAll(() => database.close());

/** A service before a provider, as its user sees it. */
async function start(options: Partial<OpenAIEmbedderOptions> = {}): Promise<Setting> {
  const provider = await startEmbeddingServer({ dimensions: 64 });
  const server = await startServer({ database, embedder: embedderAt(provider.url, options) });
  onTestFinished(async () => {
    await server[Symbol.asyncDispose]();
    await provider.stop();
  });
  return { client: clientAt(server.url), url: server.url, provider };
}

const clientAt = (url: string) => new OpenAI({ apiKey: "any", baseURL: `${url}/v1`, maxRetries: 0 });

const MODEL = "test-embedding";

describe("embeddings.create", () => {
  test("gives a provider of an OpenAI model the text of tokens, as LangChain sends them", async () => {
    const { client, provider } = await start({ model: "azure/text-embedding-3-small" });
    const texts = ["The whale lives in the sea.", "Größe 🐘"];
    // LangChain cuts long texts between tokens, also inside of a character.
    const cut = encode("🐘").slice(0, 1);
    const reply = await client.embeddings.create({
      model: "azure/text-embedding-3-small",
      input: [...texts.map((text) => encode(text)), cut, encode("after")],
    });
    expect(reply.data).toHaveLength(4);
    expect(provider.requests.flatMap(({ body }) => body.input)).toEqual([...texts, "\uFFFD", "after"]);
  });

  test("refuses tokens of a model whose tokens are not known", async () => {
    const { client, provider } = await start();
    await expect(client.embeddings.create({ model: MODEL, input: [64] })).rejects.toMatchObject({
      status: 400,
      param: "input",
      message: expect.stringContaining("check_embedding_ctx_length=False"),
    });
    expect(provider.requests).toEqual([]);
  });

  test.each(["float", "base64", undefined] as const)(
    "gives the provider's floats in the format %s",
    async (format) => {
      const { client, url } = await start();
      const input = ["a whale in the sea", "an apple on a tree"];
      const body = { model: MODEL, input, ...(format !== undefined && { encoding_format: format }) };
      const reply = await client.embeddings.create(body);
      const expected = input.map((text) => Array.from(Float32Array.from(vectorOf(text, 64))));
      // A client that asks for base64 itself decodes it itself.
      const decode = (embedding: unknown) =>
        typeof embedding === "string"
          ? Array.from(new Float32Array(new Uint8Array(Buffer.from(embedding, "base64")).buffer))
          : embedding;
      expect(reply.data.map(({ embedding }) => decode(embedding))).toEqual(expected);
      expect(reply.data.map(({ index }) => index)).toEqual([0, 1]);
      expect(reply).toMatchObject({
        object: "list",
        model: MODEL,
        usage: { prompt_tokens: 10, total_tokens: 10 },
      });

      const raw = await fetch(`${url}/v1/embeddings`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify(body),
      });
      const [item] = ((await raw.json()) as { data: { embedding: unknown }[] }).data;
      if (format === "base64") expect(item?.embedding).toMatch(/^[A-Za-z0-9+/]+=*$/);
      else expect(item?.embedding).toEqual(expected[0]);
    },
  );

  test("gives 2,048 vectors, right to the last", async () => {
    await using server = await startServer({ database });
    const client = clientAt(server.url);
    const input = Array.from({ length: 2048 }, (_, index) => `text ${index}`);
    const [numbers, base64] = await Promise.all(
      (["float", "base64"] as const).map((encoding_format) =>
        client
          .post<{ data: { index: number; embedding: number[] | string }[] }>("/embeddings", {
            body: { model: LEXICAL_MODEL, input, encoding_format },
          })
          .then(({ data }) => data),
      ),
    );
    expect(numbers).toHaveLength(2048);
    for (const index of [0, 1000, 2047]) {
      const floats = Buffer.from(new Float32Array(numbers?.[index]?.embedding as number[]).buffer);
      expect(base64?.[index]).toMatchObject({ index, embedding: floats.toString("base64") });
    }
    const [alone] = (await client.embeddings.create({ model: LEXICAL_MODEL, input: "text 2047" })).data;
    expect(numbers?.[2047]?.embedding).toEqual(alone?.embedding);
  });

  test("refuses what would be more numbers than a reply may have", async () => {
    const { client, provider } = await start({ dimensions: 8192 });
    const call = client.embeddings.create({ model: MODEL, input: Array.from({ length: 1025 }, () => "x") });
    await expect(call).rejects.toMatchObject({
      status: 400,
      param: "input",
      code: "array_above_max_length",
      message: expect.stringContaining("at most 1024 texts for embeddings of 8192 dimensions"),
    });
    expect(provider.requests).toEqual([]);
  });

  test("checks the length against what the provider gave where none is configured", async () => {
    const { client } = await start();
    await client.embeddings.create({ model: MODEL, input: "x", dimensions: 64 });
    await expect(
      client.embeddings.create({ model: MODEL, input: "x", dimensions: 32 }),
    ).rejects.toMatchObject({
      status: 400,
      param: "dimensions",
      message: expect.stringContaining("64 dimensions"),
    });
  });

  test("asks the provider nothing for a model that is not its own", async () => {
    const { client, provider } = await start();
    const error: unknown = await client.embeddings
      .create({ model: "gpt-9", input: "x" })
      .catch((e: unknown) => e);
    expect(error).toBeInstanceOf(NotFoundError);
    expect(error).toMatchObject({ code: "model_not_found", param: "model", type: "invalid_request_error" });
    expect(provider.requests).toEqual([]);
  });

  test.each([
    [{ status: 400, body: { error: { message: "too long" } } }, 400, "embedding_provider_refused", null],
    [{ status: 401, body: {} }, 503, "embedding_provider_unavailable", null],
    [{ status: 429, headers: { "retry-after": "7" } }, 429, "rate_limit_exceeded", "7"],
    [{ status: 500, body: {} }, 503, "embedding_provider_unavailable", "1"],
    [{ missing: 1 }, 503, "embedding_provider_unavailable", null],
  ])("tells of the provider's failure %j as search does", async (behaviour, status, code, retryAfter) => {
    const { client, provider } = await start();
    provider.next(behaviour);
    const error: unknown = await client.embeddings
      .create({ model: MODEL, input: "x" })
      .catch((e: unknown) => e);
    expect(error).toMatchObject({ status, code });
    expect((error as InstanceType<typeof OpenAI.APIError>).headers?.get("retry-after")).toBe(retryAfter);
  });

  test("stops at the provider when the caller goes away", async () => {
    const { client, provider } = await start();
    provider.next({ fault: "silence" });
    const gone = new AbortController();
    const call = client.embeddings.create({ model: MODEL, input: "x" }, { signal: gone.signal });
    const failed = expect(call).rejects.toThrow(/aborted/i);
    await provider.received(1);
    gone.abort();
    await failed;
    expect(await provider.requests[0]?.abandoned).toBe(true);
  });
});

describe("models", () => {
  test("list and retrieve name the provider's model, with slashes too", async () => {
    const { client } = await start({ model: "openai/BAAI/bge-m3" });
    const model = { id: "BAAI/bge-m3", object: "model", created: 0, owned_by: "provider" };
    expect((await client.models.list()).data).toEqual([model]);
    expect(await client.models.retrieve("BAAI/bge-m3")).toEqual(model);
    expect(await client.models.retrieve("openai/BAAI/bge-m3")).toEqual(model);
    await expect(client.models.retrieve("other")).rejects.toMatchObject({
      status: 404,
      code: "model_not_found",
    });
  });
});
