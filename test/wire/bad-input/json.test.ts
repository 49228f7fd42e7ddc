import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { expectError, send } from "../../support/clients/http.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

const url = `${server.url}/v1/vector_stores`;
await send(url, "POST", '{"id": "s"}');
await send(`${url}/s/embeddings`, "POST", '{"id": "e", "content": "a text", "embedding": [1, 2]}');
const content = async () => [
  (await pool.query("select * from vector_stores")).rows,
  (await pool.query("select * from embeddings")).rows,
];
let before: unknown;
beforeEach(async () => void (before = await content()));
// What is refused leaves no trace.
afterEach(async () => expect(await content()).toEqual(before));

const create = "";
const update = "/s";
const embed = "/s/embeddings";
const batch = "/s/embeddings/batch";
const purge = "/s/embeddings/purge";
const search = "/s/search";

describe("a body that is not JSON", () => {
  test.each([
    "{",
    "{'name': 'a'}",
    '{"name": "a",}',
    '{"name": undefined}',
    '{"name": "a"} {}',
    '{"name": "\u0001"}',
    '{"dimensions": 01}',
    '{"embedding": [NaN]}',
    "name=a",
    " ",
    "\ufeff{}",
  ])("is refused: %j", async (body) => {
    for (const path of [create, update, embed, batch, purge, search]) {
      expectError(await send(url + path, "POST", body), 400, { param: null, code: "invalid_json" });
    }
  });

  test("is refused when it is not UTF-8", async () => {
    const body = Buffer.concat([Buffer.from('{"name": "'), Buffer.from([0xc3, 0x28]), Buffer.from('"}')]);
    expectError(await send(url, "POST", body), 400, { param: null, code: "invalid_json" });
    expectError(await send(url, "POST", Buffer.from('{"name": "a"}', "utf16le")), 400, {
      code: "invalid_json",
    });
  });

  test.each(["[]", "null", "1", '"{}"', "true"])("is refused when it is no object: %s", async (body) => {
    for (const path of [create, update, embed, batch, purge, search]) {
      expectError(await send(url + path, "POST", body), 400, { code: "invalid_type" });
    }
  });
});

describe("an empty body", () => {
  test.each([
    [embed, "content"],
    [batch, "embeddings"],
    [purge, "filters"],
    [search, "query"],
  ])("is refused by %s", async (path, param) => {
    const expected = {
      param,
      code: "missing_required_parameter",
      message: `Missing required parameter: '${param}'.`,
    };
    expectError(await send(url + path, "POST"), 400, expected);
    expectError(await send(url + path, "POST", ""), 400, expected);
    expectError(await send(url + path, "POST", "{}"), 400, expected);
  });

  test.each([{ "content-type": "application/json" }, {}])(
    "is accepted where nothing is needed, with %j",
    async (headers) => {
      const created = await send(url, "POST", undefined, headers);
      expect(created.status).toBe(200);
      const { id } = JSON.parse(created.text) as { id: string };
      expect((await send(`${url}/${id}`, "POST", undefined, headers)).status).toBe(200);
      expect((await send(`${url}/${id}`, "GET", undefined, headers)).status).toBe(200);
      expect((await send(`${url}/${id}`, "DELETE", undefined, headers)).status).toBe(200);
    },
  );
});

describe("a field of the wrong type", () => {
  test.each([
    // Texts, and lists of them.
    [create, '{"name": 1}', "name"],
    [create, '{"name": ["a"]}', "name"],
    [create, '{"name": {}}', "name"],
    [create, '{"file_ids": [1]}', "file_ids[0]"],
    [create, '{"file_ids": ["a", null]}', "file_ids[1]"],
    [create, '{"file_ids": {}}', "file_ids"],
    [search, '{"query": 1}', "query"],
    [search, '{"query": {"text": "a"}}', "query"],
    [search, '{"query": ["a", 1]}', "query[1]"],
    // Integers.
    [create, '{"dimensions": "7"}', "dimensions"],
    [create, '{"dimensions": 1.5}', "dimensions"],
    [create, '{"dimensions": true}', "dimensions"],
    [search, '{"query": "a", "max_num_results": "7"}', "max_num_results"],
    [search, '{"query": "a", "limit": "7"}', "limit"],
    // Decimal numbers and booleans.
    [
      search,
      '{"query": "a", "ranking_options": {"score_threshold": "0.5"}}',
      "ranking_options.score_threshold",
    ],
    [search, '{"query": "a", "rewrite_query": "true"}', "rewrite_query"],
    [search, '{"query": "a", "rewrite_query": 1}', "rewrite_query"],
    [search, '{"query": "a", "return_metadata": "yes"}', "return_metadata"],
    // Objects, and lists of them.
    [create, '{"expires_after": 7}', "expires_after"],
    [create, '{"expires_after": []}', "expires_after"],
    [create, '{"expires_after": {"anchor": "last_active_at", "days": "7"}}', "expires_after.days"],
    [search, '{"query": "a", "filters": "lang"}', "filters"],
    [search, '{"query": "a", "filters": []}', "filters"],
    [search, '{"query": "a", "filters": {"type": "and", "filters": {}}}', "filters.filters"],
    [search, '{"query": "a", "filters": {"type": "and", "filters": [1]}}', "filters.filters[0]"],
    [search, '{"query": "a", "filters": {"type": 1, "key": "k", "value": 1}}', "filters.type"],
    [search, '{"query": "a", "filters": {"type": "eq", "key": 1, "value": 1}}', "filters.key"],
    [search, '{"query": "a", "ranking_options": "auto"}', "ranking_options"],
    [batch, '{"embeddings": {}}', "embeddings"],
    [batch, '{"embeddings": "a"}', "embeddings"],
    [batch, '{"embeddings": [[]]}', "embeddings[0]"],
    [batch, '{"embeddings": [{"content": "a", "embedding": [1, 2]}, null]}', "embeddings[1]"],
    [
      batch,
      '{"embeddings": [{"content": "a", "embedding": [1, 2]}, {"content": 1}]}',
      "embeddings[1].content",
    ],
    // Maps and free JSON.
    [create, '{"metadata": []}', "metadata"],
    [create, '{"metadata": "a"}', "metadata"],
    [create, '{"metadata": {"k": 1}}', "metadata.k"],
    [create, '{"metadata": {"k": null}}', "metadata.k"],
    [update, '{"metadata": {"k": {}}}', "metadata.k"],
    [embed, '{"content": "a", "metadata": []}', "metadata"],
    [embed, '{"content": "a", "metadata": "b"}', "metadata"],
    // Vectors.
    [embed, '{"content": "a", "embedding": {}}', "embedding"],
    [embed, '{"content": "a", "embedding": 1}', "embedding"],
    [embed, '{"content": "a", "embedding": [1, "2"]}', "embedding[1]"],
    [embed, '{"content": "a", "embedding": [1, null]}', "embedding[1]"],
    [embed, '{"content": "a", "embedding": [[1, 2]]}', "embedding[0]"],
  ])("is refused by %s: %s", async (path, body, param) => {
    expectError(await send(url + path, "POST", body), 400, {
      param,
      code: "invalid_type",
      message: expect.stringContaining(`'${param}'`),
    });
  });
});

describe("a value that is not allowed", () => {
  test.each([
    [create, '{"dimensions": -1}', "dimensions", "integer_below_min_value"],
    [create, '{"dimensions": 99999999999}', "dimensions", "integer_above_max_value"],
    [create, '{"dimensions": 1e999}', "dimensions", expect.any(String)],
    [search, '{"query": "a", "max_num_results": -1}', "max_num_results", "integer_below_min_value"],
    [search, '{"query": "a", "limit": -1}', "limit", "integer_below_min_value"],
    [search, '{"query": "a", "limit": 1, "max_num_results": 1}', "limit", "invalid_value"],
    [search, '{"query": "a", "response_format": "xml"}', "response_format", "invalid_value"],
    [
      search,
      '{"query": "a", "ranking_options": {"score_threshold": 1e999}}',
      "ranking_options.score_threshold",
      "invalid_value",
    ],
    [
      search,
      '{"query": "a", "filters": {"type": "EQ", "key": "k", "value": 1}}',
      "filters.type",
      "invalid_value",
    ],
    [
      search,
      '{"query": "a", "filters": {"type": "unspecified", "key": "k", "value": 1}}',
      "filters.type",
      "invalid_value",
    ],
    [
      search,
      '{"query": "a", "filters": {"type": "eq", "key": "k", "value": 1e999}}',
      "filters.value",
      "invalid_value",
    ],
    [
      search,
      '{"query": "a", "filters": {"type": "in", "key": "k", "value": [-1e999]}}',
      expect.stringMatching(/^filters\.value/),
      "invalid_value",
    ],
    [purge, '{"filters": {"type": "gt", "key": "k", "value": 1e999}}', "filters.value", "invalid_value"],
    [search, '{"query": [], "embedding": []}', "query", "missing_required_parameter"],
    [search, '{"embedding": [1, 1e999]}', "embedding[1]", "invalid_value"],
    [search, '{"embedding": [0, 0]}', "embedding", "invalid_value"],
    [search, '{"embedding": [1, 2, 3]}', "embedding", "dimension_mismatch"],
    [embed, '{"content": "a", "embedding": [1, 1e999]}', "embedding[1]", "invalid_value"],
    [embed, '{"content": "a", "embedding": [1, -3.5e38]}', "embedding[1]", "invalid_value"],
    [embed, '{"content": "a", "embedding": [1e-60, 0]}', "embedding", "invalid_value"],
    [embed, '{"content": "a", "embedding": [0, -0.0]}', "embedding", "invalid_value"],
    [embed, '{"content": "a", "embedding": "not base64!"}', "embedding", "invalid_value"],
    [embed, '{"content": "a", "embedding": "AACA"}', "embedding", "invalid_value"],
    [embed, '{"content": "a", "embedding": "AADAfwAAgD8="}', "embedding[0]", "invalid_value"],
    [
      embed,
      '{"content": "a", "embedding": [1, 2], "metadata": {"n": 1e999}}',
      expect.stringMatching(/^metadata/),
      "invalid_value",
    ],
    [
      embed,
      '{"content": "a", "embedding": [1, 2], "metadata": {"n": [{"m": -1e999}]}}',
      expect.stringMatching(/^metadata/),
      "invalid_value",
    ],
  ])("is refused by %s: %s", async (path, body, param, code) => {
    expectError(await send(url + path, "POST", body), 400, { param, code } as never);
  });
});

describe("a field that does not exist", () => {
  test.each([
    [create, '{"nmae": "a"}', "nmae"],
    [create, '{"fileIds": []}', "fileIds"],
    [create, '{"": 1}', ""],
    [create, '{"constructor": {}}', "constructor"],
    [create, '{"__proto__": {"name": "a"}}', "__proto__"],
    [create, '{"toString": null}', "toString"],
    [create, '{"expires_after": {"anchor": "last_active_at", "days": 1, "hours": 1}}', "expires_after.hours"],
    [
      create,
      '{"chunking_strategy": {"type": "auto", "max_chunk_size_tokens": 800}}',
      "chunking_strategy.max_chunk_size_tokens",
    ],
    [update, '{"description": "a"}', "description"],
    [update, '{"update_mask": "name", "name": "a"}', "update_mask"],
    [update, '{"vector_store_id": "other"}', "vector_store_id"],
    [embed, '{"content": "a", "vector_store_id": "s"}', "vector_store_id"],
    [embed, '{"content": "a", "vector": [1, 2]}', "vector"],
    [
      batch,
      '{"embeddings": [{"content": "a", "embedding": [1, 2]}, {"content": "a", "text": "b"}]}',
      "embeddings[1].text",
    ],
    [
      search,
      '{"query": "a", "filters": {"type": "and", "filters": [{"type": "eq", "key": "k", "val": 1}]}}',
      "filters.filters[0].val",
    ],
    [search, '{"query": "a", "ranking_options": {"hybrid": true}}', "ranking_options.hybrid"],
    [
      search,
      '{"query": "a", "filters": {"type": "eq", "key": "k", "value": 1, "__proto__": {}}}',
      "filters.__proto__",
    ],
  ])("is refused by %s: %s", async (path, body, param) => {
    expectError(await send(url + path, "POST", body), 400, { param, code: "unknown_parameter" });
  });
});

describe("a query parameter", () => {
  test.each([
    ["?foo=1", "foo", "unknown_parameter"],
    ["?__proto__=1", "__proto__", "unknown_parameter"],
    ["?constructor=1", "constructor", "unknown_parameter"],
    ["?limit=1&limit=2", "limit", "invalid_value"],
    ["?order=asc&order=asc", "order", "invalid_value"],
    ["?limit=", "limit", "invalid_type"],
    ["?limit=ten", "limit", "invalid_type"],
    ["?limit=1.5", "limit", "invalid_type"],
    ["?limit=0x10", "limit", "invalid_type"],
    ["?limit=-1", "limit", "integer_below_min_value"],
    ["?limit=99999999999999999999", "limit", "integer_above_max_value"],
    ["?order=up", "order", "invalid_value"],
    ["?order=", "order", "invalid_value"],
    ["?after=%00", "after", "invalid_value"],
    ["?after=", "after", "invalid_value"],
    ["?before=nowhere", "before", "invalid_value"],
    ["/s?expand=all", "expand", "unknown_parameter"],
    ["/s?vector_store_id=other", "vector_store_id", "unknown_parameter"],
    ["/s/embeddings?include_embedding=1", "include_embedding", "invalid_type"],
    ["/s/embeddings?after=%00", "after", "invalid_value"],
  ])("is refused: %s", async (path, param, code) => {
    expectError(await send(url + path, "GET"), 400, { param, code });
  });
});

test("the key __proto__ is refused in a store's metadata", async () => {
  expectError(await send(url, "POST", '{"metadata": {"__proto__": "a"}}'), 400, { param: "metadata" });
});

describe("nesting and size", () => {
  const nested = (depth: number, open: string, core: string, close: string) =>
    open.repeat(depth) + core + close.repeat(depth);

  test.each([17, 10_000, 100_000])("a filter %i deep is refused", async (depth) => {
    const filters = nested(depth, '{"type":"and","filters":[', '{"type":"eq","key":"k","value":1}', "]}");
    expectError(await send(url + search, "POST", `{"query":"a","filters":${filters}}`), 400, {
      code: "invalid_value",
    });
    expectError(await send(url + purge, "POST", `{"filters":${filters}}`), 400, { code: "invalid_value" });
  });

  test.each([10_000, 100_000])("a filter's value %i deep is refused", async (depth) => {
    const filters = `{"type":"eq","key":"k","value":${nested(depth, "[", "1", "]")}}`;
    expectError(await send(url + search, "POST", `{"query":"a","filters":${filters}}`), 400);
  });

  test.each([
    [33, "invalid_value"],
    [10_000, "invalid_value"],
    [100_000, "object_above_max_properties"],
  ])("metadata %i deep is refused", async (depth, code) => {
    for (const metadata of [nested(depth, '{"a":', "1", "}"), `{"a":${nested(depth - 1, "[", "", "]")}}`]) {
      const body = `{"content":"a","embedding":[1,2],"metadata":${metadata}}`;
      expectError(await send(url + embed, "POST", body), 400, { param: "metadata", code });
    }
  });

  test.each<[string, unknown, string]>([
    [
      "of conditions",
      { type: "or", filters: Array(20_000).fill({ type: "eq", key: "some key", value: "some value" }) },
      "filters.filters",
    ],
    ["of list items", { type: "in", key: "k", value: Array(100_000).fill("some text") }, "filters.value"],
    ["in one value", { type: "eq", key: "k", value: "v".repeat(1e6) }, "filters.value"],
    ["in one key", { type: "eq", key: "k".repeat(1e6), value: 1 }, "filters.key"],
  ])("a filter of 1 MB %s is refused", async (_, filters, param) => {
    expectError(await send(url + search, "POST", JSON.stringify({ query: "a", filters })), 400, { param });
  });

  test("metadata of more than 64 KiB is refused", async () => {
    const body = JSON.stringify({ content: "a", embedding: [1, 2], metadata: { text: "t".repeat(65_536) } });
    expectError(await send(url + embed, "POST", body), 400, {
      param: "metadata",
      code: "string_above_max_length",
    });
  });

  test("a batch of more than 10,000 is refused", async () => {
    const body = JSON.stringify({ embeddings: Array(10_001).fill({ content: "a", embedding: [1, 2] }) });
    expectError(await send(url + batch, "POST", body), 400, {
      param: "embeddings",
      code: "array_above_max_length",
    });
  });

  test("an error does not repeat what is too long to read", async () => {
    const reply = await send(url, "POST", JSON.stringify({ ["k".repeat(1e6)]: 1 }));
    expectError(reply, 400, { code: "unknown_parameter" });
    expect(reply.text.length).toBeLessThan(1000);
  });
});
