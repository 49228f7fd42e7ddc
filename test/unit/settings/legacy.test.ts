import { ConnectError } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import { SearchService } from "../../../gen/pgquiver/v1/search_pb.ts";
import { VectorStoreFileService } from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { VectorStoreService } from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { describeError } from "../../../src/errors.ts";
import { canonicalUrl, readLegacy } from "../../../src/wire/rest/legacy.ts";

type Json = Record<string, unknown>;

function readSearch(body: Json) {
  return readLegacy(SearchService.method.search, body);
}

function readBatch(body: Json) {
  const { createVectorStoreFileBatch: method } = VectorStoreFileService.method;
  return readLegacy(method, body);
}

function refusal(body: Json, read: (body: Json) => unknown = readSearch) {
  try {
    read(body);
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    return describeError(error);
  }
  return expect.unreachable("the request was read");
}

describe("the path", () => {
  test.each([
    ["/vector_stores", "/v1/vector_stores"],
    ["/vector_stores/vs_1/search?x=1", "/v1/vector_stores/vs_1/search?x=1"],
    ["/vector_stores?limit=1", "/v1/vector_stores?limit=1"],
    ["/files", "/v1/files"],
    ["/v1/v1/vector_stores", "/v1/vector_stores"],
    ["/v1/vector_stores", "/v1/vector_stores"],
    ["/v1/v1", "/v1/v1"],
    ["/v2/vector_stores", "/v2/vector_stores"],
    ["/vector_stores_of_mine", "/vector_stores_of_mine"],
    ["/pgquiver.v1.SearchService/Search", "/pgquiver.v1.SearchService/Search"],
    ["/health", "/health"],
    ["/", "/"],
  ])("%s means %s", (url, canonical) => {
    expect(canonicalUrl(url)).toBe(canonical);
  });
});

test("leaves other requests and OpenAI's own spelling alone", () => {
  const create = readLegacy(VectorStoreService.method.createVectorStore, { limit: 1 });
  expect(create.json).toEqual({ limit: 1 });
  const body = { query: "a", max_num_results: 3, filters: { type: "eq", key: "k", value: 1 } };
  const { json, reshape } = readSearch(body);
  expect(json).toEqual(body);
  expect(reshape({ data: [{ id: "a", attributes: { k: 1 } }] })).toEqual({
    data: [{ id: "a", attributes: { k: 1 }, metadata: { k: 1 } }],
  });
});

test("shows the attributes of each result of a batch as metadata, too", () => {
  const { reshape } = readLegacy(SearchService.method.batchSearch, {});
  expect(reshape({ object: "list", data: [{ data: [{ attributes: { k: 1 } }] }, { data: [] }] })).toEqual({
    object: "list",
    data: [{ data: [{ attributes: { k: 1 }, metadata: { k: 1 } }] }, { data: [] }],
  });
});

describe("limit", () => {
  test.each([
    [1, 1],
    [1_000, 1_000],
    [1_001, 1_000],
    [1e9, 1_000],
  ])("%i asks for %i results", (limit, results) => {
    expect(readSearch({ query: "a", limit }).json).toEqual({ query: "a", limit: results });
  });

  test("is absent when null", () => {
    expect(readSearch({ query: "a", limit: null, max_num_results: 3 }).json).toEqual({
      query: "a",
      max_num_results: 3,
    });
    expect(readSearch({ query: "a", limit: 3, max_num_results: null }).json).toEqual({
      query: "a",
      max_num_results: null,
      limit: 3,
    });
  });

  test.each([
    [{ limit: "5" }, "INVALID_TYPE"],
    [{ limit: 1.5 }, "INVALID_TYPE"],
  ])("is refused in %j", (body, reason) => {
    expect(refusal(body)).toMatchObject({ param: "limit", reason });
  });
});

describe("chunk_size", () => {
  const characters = (size: number, overlap: number) => ({
    type: "characters",
    characters: { max_chunk_size_characters: size, chunk_overlap_characters: overlap },
  });

  test("asks for sizes in characters, for all files and for each", () => {
    const { json } = readBatch({
      chunking_strategy: { chunk_size: 100, chunk_overlap: 20, separators: ["\n"] },
      files: [{ file_id: "a", chunking_strategy: { chunk_size: 7 } }, { file_id: "b" }, "c"],
    });
    expect(json).toEqual({
      chunking_strategy: characters(100, 20),
      files: [{ file_id: "a", chunking_strategy: characters(7, 0) }, { file_id: "b" }, "c"],
    });
  });

  test("leaves OpenAI's strategies alone", () => {
    const sizes = { max_chunk_size_tokens: 100, chunk_overlap_tokens: 0 };
    for (const strategy of [null, "auto", { type: "auto" }, { type: "static", static: sizes }])
      expect(readBatch({ chunking_strategy: strategy }).json).toEqual({ chunking_strategy: strategy });
    expect(readBatch({ file_ids: ["a"] }).json).toEqual({ file_ids: ["a"] });
  });

  test.each([
    [{ chunk_size: "5" }, "chunk_size", "INVALID_TYPE"],
    [{ chunk_size: 0 }, "chunk_size", "INTEGER_BELOW_MIN_VALUE"],
    [{ chunk_size: 100_001 }, "chunk_size", "INTEGER_ABOVE_MAX_VALUE"],
    [{ chunk_size: 10, chunk_overlap: 6 }, "chunk_overlap", "INTEGER_ABOVE_MAX_VALUE"],
    [{ chunk_size: 10, chunk_overlap: 1.5 }, "chunk_overlap", "INVALID_TYPE"],
    [{ chunk_size: 10, type: "auto" }, "chunk_size", "INVALID_VALUE"],
    [{ chunk_size: 10, static: {} }, "type", "MISSING_REQUIRED_PARAMETER"],
  ])("is refused in %j", (strategy, field, reason) => {
    for (const [body, path] of [
      [{ chunking_strategy: strategy }, "chunking_strategy"],
      [{ files: [{}, { chunking_strategy: strategy }] }, "files[1].chunking_strategy"],
    ] as const)
      expect(refusal(body, readBatch)).toMatchObject({ param: `${path}.${field}`, reason });
  });
});

describe("filters", () => {
  test("that are flat become equalities, all of which must hold", () => {
    const { json } = readSearch({ filters: { category: "support", year: 2024, open: true } });
    expect(json).toEqual({
      filters: {
        type: "and",
        filters: [
          { type: "eq", key: "category", value: "support" },
          { type: "eq", key: "year", value: 2024 },
          { type: "eq", key: "open", value: true },
        ],
      },
    });
  });

  test("that are empty are none", () => {
    expect(readSearch({ filters: {} }).json).toEqual({ filters: null });
  });

  test.each([
    { type: "and", filters: [] },
    { type: "eq", key: "k", value: 1 },
    { key: "k" },
    { type: "and" },
    { type: "or", filter: [] },
    { type: "foo", value: 1 },
    { type: "eq", value: 1, ke: "k" },
  ])("in OpenAI's spelling, or near it, are left alone: %j", (filters) => {
    expect(readSearch({ filters }).json).toEqual({ filters });
  });

  test.each([{ type: "faq" }, { type: "eq" }, { value: 1 }, { type: "faq", value: 1, year: 2024 }])(
    "of keys that only look like OpenAI's are flat: %j",
    (filters) => {
      expect(readSearch({ filters }).json).toMatchObject({ filters: { type: "and" } });
    },
  );

  test.each([null, "a", 1, []])("that are no map are left to be refused: %j", (filters) => {
    expect(readSearch({ filters }).json).toEqual({ filters });
  });

  test.each([{ a: null }, { a: {} }, { b: 1, a: [1] }])(
    "with a value that is no scalar are refused: %j",
    (filters) => {
      expect(refusal({ filters })).toMatchObject({ param: "filters.a", reason: "INVALID_TYPE" });
    },
  );
});

describe("the reply", () => {
  const item = {
    file_id: "e",
    filename: "f.txt",
    score: 0.5,
    attributes: { k: 1 },
    content: [
      { type: "text", text: "one" },
      { type: "text", text: "two" },
    ],
    id: "e",
    metadata: { k: 1 },
  };
  const reply = {
    object: "vector_store.search_results.page",
    search_query: ["a"],
    data: [item],
    has_more: false,
    usage: { total_tokens: 2 },
  };

  test("has no metadata when told so", () => {
    expect(readSearch({ return_metadata: false }).reshape(reply)).toEqual({
      ...reply,
      data: [{ ...item, attributes: null, metadata: null }],
    });
    for (const value of [true, null, undefined])
      expect(readSearch({ return_metadata: value }).reshape(reply)).toEqual(reply);
    expect(reply.data[0]).toBe(item);
  });

  test("is flat when asked", () => {
    const flat = { id: "e", content: "one\ntwo", score: 0.5, metadata: { k: 1 } };
    const { json, reshape } = readSearch({ query: "a", response_format: "flat" });
    expect(json).toEqual({ query: "a" });
    expect(reshape(reply)).toEqual({
      object: "vector_store.search",
      data: [flat],
      usage: { total_tokens: 2 },
    });
    expect(readSearch({ response_format: "flat", return_metadata: false }).reshape(reply)).toMatchObject({
      data: [{ ...flat, metadata: null }],
    });
  });

  test("has OpenAI's members and no others when asked", () => {
    const { usage: _usage, ...page } = reply;
    const { id: _id, metadata: _metadata, ...only } = item;
    const given = { ...reply, statistics: { method: "exact", complete: true } };
    expect(readSearch({ response_format: "openai" }).reshape(given)).toEqual({ ...page, data: [only] });
    expect(readSearch({ response_format: "openai", return_metadata: false }).reshape(given)).toEqual({
      ...page,
      data: [{ ...only, attributes: null }],
    });
  });

  test.each([
    [{ return_metadata: "false" }, "return_metadata"],
    [{ return_metadata: 0 }, "return_metadata"],
    [{ response_format: "FLAT" }, "response_format"],
    [{ response_format: {} }, "response_format"],
  ])("cannot be shaped by %j", (body, param) => {
    expect(refusal(body)).toMatchObject({ param });
  });
});
