import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { embedderAt } from "../support/servers/embedder.ts";
import { startEmbeddingServer, type EmbeddingServer } from "../support/servers/embedding-server.ts";
import { jsonClient, type Json, type Send } from "../support/clients/json.ts";
import { startServer, type TestServer } from "../support/servers/server.ts";

let provider: EmbeddingServer;
let server: TestServer;
let send: Send;

beforeAll(async () => {
  provider = await startEmbeddingServer({ dimensions: 3 });
  server = await startServer({ embedder: embedderAt(provider.url) });
  send = jsonClient(server.url);
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await provider.stop();
});

describe("search in litellm-pgvector's spelling", () => {
  let path: string;

  beforeAll(async () => {
    const { json } = await send("POST", "/v1/vector_stores", {});
    path = `/vector_stores/${String(json["id"])}/search`;
    const embeddings = Array.from({ length: 150 }, (_, index) => ({
      content: `text ${index}`,
      embedding: [1, index / 150, 0],
      metadata: {
        even: index % 2 === 0,
        ten: Math.floor(index / 10),
        name: `n${index % 3}`,
        filename: `${index}.txt`,
      },
    }));
    await send("POST", `/v1${path.replace("search", "embeddings/batch")}`, { embeddings });
  });

  const find = async (body: object) => {
    const { json } = await send("POST", path, { query: "text", ...body });
    return json["data"] as Json[];
  };

  test.each([
    [1, 1],
    [70, 70],
    [100, 100],
    [101, 101],
    [5_000, 150],
  ])("limit %i gives %i results", async (limit, count) => {
    expect(await find({ limit })).toHaveLength(count);
  });

  test("limit is refused beside max_num_results, and where it is no count", async () => {
    for (const body of [
      { limit: 5, max_num_results: 5 },
      { limit: 0 },
      { limit: -1 },
      { limit: "5" },
      { limit: 1.5 },
    ]) {
      const reply = await send("POST", path, { query: "text", ...body });
      expect(reply).toMatchObject({ status: 400, json: { error: { param: "limit" } } });
    }
  });

  test.each<[object, number]>([
    [{ even: true }, 75],
    [{ even: false, name: "n1" }, 25],
    [{ ten: 3 }, 10],
    [{ ten: 3.5 }, 0],
    [{ name: "n0" }, 50],
    [{ even: "true" }, 0],
    [{ missing: "x" }, 0],
    [{}, 100],
  ])("the flat filter %j finds %i", async (filters, count) => {
    const data = await find({ filters, limit: 100 });
    expect(data).toHaveLength(count);
    for (const { attributes } of data) expect(attributes).toMatchObject(filters);
  });

  test.each([
    ["null", null],
    ["a list", ["n1"]],
    ["an object", { type: "eq" }],
  ])("a flat filter on %s is refused under the name the caller gave it", async (_kind, value) => {
    const reply = await send("POST", path, { query: "text", filters: { name: value } });
    expect(reply).toMatchObject({ status: 400, json: { error: { param: "filters.name" } } });
  });

  test.each([
    [{ type: "and" }, "filters.filters", "missing_required_parameter"],
    [{ type: "or" }, "filters.filters", "missing_required_parameter"],
    [{ type: "eq", value: 1 }, "filters.key", "missing_required_parameter"],
    [{ type: "foo", value: 1 }, "filters.type", "invalid_value"],
  ])("%j is OpenAI's filter with a mistake, and no flat one", async (filters, param, code) => {
    const reply = await send("POST", path, { query: "text", filters });
    expect(reply).toMatchObject({ status: 400, json: { error: { param, code } } });
    expect(await find({ filters: { type: "faq" } })).toEqual([]);
  });

  test.each([
    [{ return_metadata: false }, "searches[0].return_metadata"],
    [{ filters: { name: "x" } }, "searches[0].filters.name"],
  ])("a batch of searches refuses %j", async (fields, param) => {
    const reply = await send("POST", `${path}/batch`, { searches: [{ query: "text", ...fields }] });
    expect(reply).toMatchObject({ status: 400, json: { error: { param, code: "unknown_parameter" } } });
  });

  test("return_metadata false leaves the metadata out, but not the file's name", async () => {
    const [result] = await find({ return_metadata: false, limit: 1 });
    expect(result).toMatchObject({
      attributes: null,
      metadata: null,
      filename: expect.stringMatching(/^\d+\.txt$/),
    });
    const flat = await send("POST", path, {
      query: "text",
      limit: 1,
      return_metadata: false,
      response_format: "flat",
    });
    expect(flat.json["data"]).toMatchObject([{ metadata: null, content: expect.stringMatching(/^text/) }]);
  });

  test("it is served without /v1, with it, and with it twice", async () => {
    for (const prefix of ["", "/v1", "/v1/v1"]) {
      const reply = await send("POST", prefix + path, { query: "text", limit: 1 });
      expect([prefix, reply.status, (reply.json["data"] as Json[]).length]).toEqual([prefix, 200, 1]);
    }
  });

  test("an unknown store is 404, and an empty batch 400", async () => {
    expect((await send("POST", "/vector_stores/none/search", { query: "text" })).status).toBe(404);
    const empty = await send("POST", `/v1${path.replace("search", "embeddings/batch")}`, {
      embeddings: [],
    });
    expect(empty).toMatchObject({ status: 400, json: { error: { param: "embeddings" } } });
  });
});

describe("LiteLLM's provider pg_vector", () => {
  const CREATE = { name: null, file_ids: null, expires_after: null, chunking_strategy: null, metadata: null };
  const SEARCH = { filters: null, max_num_results: null, ranking_options: null, rewrite_query: null };

  test.each(["/v1/vector_stores", "/vector_stores", "/v1/v1/vector_stores"])(
    "sends null for what is not set, to %s",
    async (base) => {
      const created = await send("POST", base, CREATE);
      expect(created).toMatchObject({ status: 200, json: { name: "", metadata: {} } });
      const path = `${base}/${String(created.json["id"])}`;
      await send("POST", `${path}/embeddings`, { content: "The answer is 42." });
      const found = await send("POST", `${path}/search`, { query: "What is the answer?", ...SEARCH });
      expect(found).toMatchObject({
        status: 200,
        json: { data: [{ content: [{ type: "text", text: "The answer is 42." }] }] },
      });
    },
  );
});
