import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { addTexts, createStore, jsonClient, type Json, type Send } from "../support/clients/json.ts";
import { startServer, type TestServer } from "../support/servers/server.ts";

const NO_FILES = { in_progress: 0, completed: 0, failed: 0, cancelled: 0, total: 0 };

let server: TestServer;
let send: Send;

beforeAll(async () => {
  server = await startServer({ apiKeys: ["key"] });
  send = jsonClient(server.url, "key");
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
});

async function search(store: string, body: unknown) {
  return send("POST", `/v1/vector_stores/${store}/search`, body);
}

const searchData = async (store: string, body: object) => (await search(store, body)).json["data"] as Json[];

describe("the wire", () => {
  test("every path of OpenAI's API is there, with /v1, without, and doubled", async () => {
    const store = await createStore(send);
    const paths: [string, string, number][] = [
      ["GET", "/vector_stores", 200],
      ["GET", `/vector_stores/${store}`, 200],
      ["POST", "/vector_stores", 200],
      ["POST", `/vector_stores/${store}`, 200],
      ["POST", `/vector_stores/${store}/search`, 400],
      ["POST", `/vector_stores/${store}/files`, 400],
      ["GET", `/vector_stores/${store}/files`, 200],
      ["GET", `/vector_stores/${store}/files/file-1`, 404],
      ["POST", `/vector_stores/${store}/files/file-1`, 400],
      ["DELETE", `/vector_stores/${store}/files/file-1`, 404],
      ["GET", `/vector_stores/${store}/files/file-1/content`, 404],
      ["POST", `/vector_stores/${store}/file_batches`, 400],
      ["GET", `/vector_stores/${store}/file_batches/vsfb_1`, 404],
      ["POST", `/vector_stores/${store}/file_batches/vsfb_1/cancel`, 404],
      ["GET", `/vector_stores/${store}/file_batches/vsfb_1/files`, 404],
      ["POST", "/files", 415],
      ["GET", "/files", 200],
      ["GET", "/files/file-1", 404],
      ["DELETE", "/files/file-1", 404],
      ["GET", "/files/file-1/content", 404],
      ["DELETE", "/vector_stores/vs_none", 404],
      ["POST", "/embeddings", 400],
      ["GET", "/models", 200],
    ];
    for (const prefix of ["/v1", "", "/v1/v1"]) {
      for (const [method, path, status] of paths) {
        const reply = await send(method, prefix + path);
        expect([method, prefix + path, reply.status]).toEqual([method, prefix + path, status]);
        // What is said of an unknown route, with 404 as well.
        expect(JSON.stringify(reply.json)).not.toContain("Invalid URL");
      }
    }
  });

  test.each<[string, string, string, unknown, Record<string, string>, number]>([
    ["no key", "GET", "/v1/vector_stores", undefined, { authorization: "" }, 401],
    ["another scheme", "GET", "/v1/vector_stores", undefined, { authorization: "Basic key" }, 401],
    ["an unknown route", "GET", "/v1/nothing", undefined, {}, 404],
    ["an unknown store", "GET", "/v1/vector_stores/vs_none", undefined, {}, 404],
    ["a wrong method", "PUT", "/v1/vector_stores", {}, {}, 405],
    ["a body that is not JSON", "POST", "/v1/vector_stores", "{", {}, 400],
    ["a body that is no object", "POST", "/v1/vector_stores", [], {}, 400],
    ["a key that changes prototypes", "POST", "/v1/vector_stores", '{"metadata":{"__proto__":"x"}}', {}, 400],
    ["another content type", "POST", "/v1/vector_stores", "name=x", { "content-type": "text/plain" }, 415],
    ["a body that is too large", "POST", "/v1/vector_stores", { name: "x".repeat(33 << 20) }, {}, 413],
    ["an unknown upload", "POST", "/v1/uploads/upload_none/cancel", undefined, {}, 404],
  ])("%s is refused in OpenAI's envelope", async (_case, method, path, body, headers, status) => {
    const reply = await send(method, path, body, headers);
    expect(reply.status).toBe(status);
    expect(Object.keys(reply.json)).toEqual(["error"]);
    const { message, type, param, code, ...more } = reply.json["error"] as Json;
    expect(message).toMatch(/\w+ \w+/);
    expect(type).toMatch(/^(?:invalid_request|authentication|server)_error$/);
    for (const text of [param, code]) expect(text === null || typeof text === "string").toBe(true);
    expect(more).toEqual({});
    expect(reply.headers.get("content-type")).toMatch(/^application\/json/);
    expect(reply.headers.get("x-request-id")).toBeTruthy();
    expect(reply.headers.get("x-should-retry")).toBe("false");
  });

  test("every reply is JSON and carries the request's id, made or given", async () => {
    const store = await createStore(send);
    for (const path of ["/v1/vector_stores", `/v1/vector_stores/${store}`, "/health", "/readyz", "/livez"]) {
      const { headers, status } = await send("GET", path, undefined, { "x-request-id": "given.1" });
      expect([path, status]).toEqual([path, 200]);
      expect(headers.get("content-type")).toMatch(/^application\/json/);
      expect(headers.get("x-request-id")).toBe("given.1");
    }
    const unsafe = await send("GET", "/v1/vector_stores", undefined, { "x-request-id": "a b" });
    expect(unsafe.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
  });

  test("an empty body with JSON's content type is accepted by create, update and delete", async () => {
    const { status, json } = await send("POST", "/v1/vector_stores", "");
    expect([status, json["object"]]).toEqual([200, "vector_store"]);
    const path = `/v1/vector_stores/${String(json["id"])}`;
    expect((await send("POST", path, "")).json).toEqual(json);
    expect(await send("DELETE", path)).toMatchObject({ status: 200, json: { deleted: true } });
  });

  test("null is absent in every optional field of create and search", async () => {
    const optional = [
      "name",
      "description",
      "file_ids",
      "expires_after",
      "chunking_strategy",
      "metadata",
      "id",
      "dimensions",
    ];
    const created = await send(
      "POST",
      "/v1/vector_stores",
      Object.fromEntries(optional.map((name) => [name, null])),
    );
    expect(created).toMatchObject({ status: 200, json: { name: "", expires_after: null, metadata: {} } });
    const store = String(created.json["id"]);
    const inner = { ranking_options: { ranker: null, score_threshold: null } };
    const names = [
      "embedding",
      "max_num_results",
      "filters",
      "ranking_options",
      "rewrite_query",
      "limit",
      "return_metadata",
      "response_format",
    ];
    const nulls = Object.fromEntries(names.map((name) => [name, null]));
    for (const body of [
      { query: "x", ...nulls },
      { query: "x", ...nulls, ...inner },
    ]) {
      expect(await search(store, body)).toMatchObject({ status: 200, json: { data: [] } });
    }
    const path = `/v1/vector_stores/${store}/embeddings`;
    const embedding = { content: "x", embedding: null, metadata: null, id: null };
    expect(await send("POST", path, embedding)).toMatchObject({ status: 200, json: { metadata: {} } });
    expect((await send("POST", `${path}/batch`, { embeddings: [embedding] })).status).toBe(200);
  });

  test("times and bytes are JSON integers, beyond 32 bits too", async () => {
    const store = await createStore(send, { expires_after: { anchor: "last_active_at", days: 365 } });
    await server.database.pool.query(
      "update vector_stores set usage_bytes = 5000000000, created_at = '2100-01-01Z' where id = $1",
      [store],
    );
    const { json } = await send("GET", `/v1/vector_stores/${store}`);
    expect(json).toMatchObject({ usage_bytes: 5_000_000_000, created_at: 4_102_444_800 });
    for (const name of ["expires_at", "last_active_at"]) expect(Number.isInteger(json[name])).toBe(true);
    await send("DELETE", `/v1/vector_stores/${store}`);
  });

  test("keys that may be null are present, counts are five integers, has_more is a boolean", async () => {
    const store = await createStore(send);
    const { json } = await send("GET", "/v1/vector_stores?limit=1");
    expect(json["has_more"]).toBeTypeOf("boolean");
    const [listed] = json["data"] as Json[];
    for (const item of [listed, (await send("GET", `/v1/vector_stores/${store}`)).json]) {
      expect(item).toMatchObject({
        name: "",
        description: null,
        expires_after: null,
        expires_at: null,
        file_counts: NO_FILES,
      });
      expect(item).toHaveProperty("last_active_at");
      expect(item).toHaveProperty("metadata");
    }
    expect((await search(store, { query: "x" })).json).toMatchObject({
      has_more: false,
      next_page: null,
      data: [],
    });
  });

  test("names are in snake case and objects are called what OpenAI calls them", async () => {
    const created = await send("POST", "/v1/vector_stores", {});
    const store = String(created.json["id"]);
    await addTexts(send, store, ["one"]);
    const replies = {
      vector_store: created.json,
      list: (await send("GET", "/v1/vector_stores")).json,
      "vector_store.search_results.page": (await search(store, { query: "one" })).json,
      "vector_store.deleted": (await send("DELETE", `/v1/vector_stores/${store}`)).json,
    };
    for (const [name, json] of Object.entries(replies)) {
      expect(json["object"]).toBe(name);
      expect(JSON.stringify(json)).not.toMatch(/"[a-z]+[A-Z]\w*":/);
    }
  });

  test("OpenAI-Beta is neither needed nor refused", async () => {
    expect(
      (await send("GET", "/v1/vector_stores", undefined, { "openai-beta": "assistants=v2" })).status,
    ).toBe(200);
  });
});

describe("search", () => {
  test("takes a text or several, and refuses an empty one", async () => {
    const store = await createStore(send);
    for (const query of ["x", ["x"], ["x", "y"]]) expect((await search(store, { query })).status).toBe(200);
    for (const query of [
      "",
      " ",
      [],
      ["x", ""],
      7,
      { text: "x" },
      [null],
      Array.from({ length: 17 }, () => "x"),
    ]) {
      expect([query, (await search(store, { query })).status]).toEqual([query, 400]);
    }
  });

  test("gives 10 results unless told, 1 to 50 as told, and refuses all else", async () => {
    const store = await createStore(send);
    await addTexts(
      send,
      store,
      Array.from({ length: 60 }, (_, index) => `text ${index}`),
    );
    expect(await searchData(store, { query: "text" })).toHaveLength(10);
    for (const count of [1, 50])
      expect(await searchData(store, { query: "text", max_num_results: count })).toHaveLength(count);
    for (const max_num_results of [0, -1, 51, 1.5, "10"]) {
      expect(await search(store, { query: "text", max_num_results })).toMatchObject({
        status: 400,
        json: { error: { param: "max_num_results" } },
      });
    }
  });

  test("refuses filters that are too deep, too many, or not filters", async () => {
    const store = await createStore(send);
    const eq = { type: "eq", key: "k", value: 1 };
    const nested = (depth: number): object =>
      depth === 1 ? eq : { type: "and", filters: [nested(depth - 1)] };
    const wide = (count: number) => ({ type: "or", filters: Array.from({ length: count - 1 }, () => eq) });
    for (const filters of [
      nested(16),
      wide(256),
      { ...eq, type: "in", value: Array.from({ length: 1000 }, (_, i) => i) },
    ]) {
      expect((await search(store, { query: "x", filters })).status).toBe(200);
    }
    const wrong = [
      nested(17),
      wide(257),
      { ...eq, type: "like" },
      { type: "eq", key: "k" },
      { type: "and", filters: [] },
      "x",
      { ...eq, value: { a: 1 } },
      { ...eq, value: [1] },
      { ...eq, type: "in", value: 1 },
      { ...eq, type: "gt", value: true },
    ];
    for (const filters of wrong) {
      const { status, json } = await search(store, { query: "x", filters });
      expect([filters, status]).toEqual([filters, 400]);
      expect((json["error"] as Json)["param"]).toMatch(/^filters/);
    }
  });

  test("applies a threshold of 0 to 1, and knows its rankers", async () => {
    const store = await createStore(send);
    await addTexts(send, store, ["apple pie", "grey whale"]);
    const found = async (ranking_options: object) =>
      (await searchData(store, { query: "apple pie", ranking_options })).length;
    expect(await found({ score_threshold: 0 })).toBe(2);
    expect(await found({ score_threshold: 0.8 })).toBe(1);
    for (const ranking_options of [
      { score_threshold: -0.1 },
      { score_threshold: 1.1 },
      { score_threshold: "0.5" },
      { ranker: "best" },
    ]) {
      expect([ranking_options, (await search(store, { query: "x", ranking_options })).status]).toEqual([
        ranking_options,
        400,
      ]);
    }
  });

  test("takes the caller's own vector, and gives a stored vector of zeros the score 0, last", async () => {
    const store = await createStore(send);
    const embeddings = [
      [1, 0],
      [0, 1],
      [-1, 0],
    ].map((embedding, index) => ({ id: `e${index}`, content: "text", embedding }));
    await send("POST", `/v1/vector_stores/${store}/embeddings/batch`, { embeddings });
    await server.database.pool.query(
      "insert into embeddings (vector_store_id, id, content, embedding) values ($1, 'zero', 'text', '[0,0]')",
      [store],
    );
    const data = await searchData(store, { embedding: [2, 0] });
    expect(data.map(({ id, score }) => [id, score])).toEqual([
      ["e0", 1],
      ["e1", 0.5],
      ["e2", 0],
      ["zero", 0],
    ]);
  });

  test("results have OpenAI's keys, with attributes also where there are none", async () => {
    const store = await createStore(send);
    await addTexts(send, store, ["one"]);
    const { json } = await search(store, { query: "one" });
    const id = expect.stringMatching(/^emb_[0-9a-f]{32}$/);
    const content = [{ type: "text", text: "one" }];
    const result = {
      file_id: id,
      filename: "document.txt",
      score: expect.closeTo(1, 5),
      attributes: {},
      content,
      id,
      embedding: null,
      passage: null,
      place: null,
      metadata: {},
    };
    expect(json).toEqual({
      object: "vector_store.search_results.page",
      search_query: ["one"],
      data: [result],
      has_more: false,
      next_page: null,
      usage: { total_tokens: 0 },
      statistics: {
        method: "exact",
        complete: true,
        ranker: null,
        rerank_failed: false,
        stages: [
          { name: "embed", count: 1, duration_ms: expect.any(Number) },
          { name: "search", count: 1, duration_ms: expect.any(Number) },
        ],
      },
    });
  });

  test("a query of 32,768 characters is searched for, a longer one is 400", async () => {
    const store = await createStore(send);
    await addTexts(send, store, ["one"]);
    expect((await search(store, { query: "word ".repeat(6_553) + "end" })).status).toBe(200);
    expect(await search(store, { query: "a".repeat(32_769) })).toMatchObject({
      status: 400,
      json: { error: { param: "query", code: "string_above_max_length" } },
    });
  });
});
