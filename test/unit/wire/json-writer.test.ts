import { create } from "@bufbuild/protobuf";
import { describe, expect, test } from "vitest";
import { EmbeddingSchema, ListEmbeddingsResponseSchema } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { FilterSchema, FilterType } from "../../../gen/pgquiver/v1/filters_pb.ts";
import { VectorStoreSchema, VectorStoreStatus } from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { writeMessage } from "../../../src/wire/rest/json-writer.ts";

test("writes what is not set: null for optional fields and messages, else the empty value", () => {
  expect(writeMessage(VectorStoreSchema, create(VectorStoreSchema))).toEqual({
    id: "",
    object: "",
    created_at: 0,
    name: null,
    description: null,
    usage_bytes: 0,
    file_counts: null,
    status: expect.any(String),
    expires_after: null,
    expires_at: null,
    last_active_at: null,
    metadata: {},
    dimensions: null,
    embedding_model: null,
    embedding_count: 0,
    precision: null,
    language: "",
    index_state: expect.any(String),
    restrict_readers: false,
  });
});

test("keeps the fields in the order of the proto file", () => {
  const json = writeMessage(VectorStoreSchema, create(VectorStoreSchema, { metadata: { a: "b" }, id: "x" }));
  expect(Object.keys(json).slice(0, 4)).toEqual(["id", "object", "created_at", "name"]);
});

test("writes 64-bit integers as numbers, also beyond 32 bits", () => {
  const store = create(VectorStoreSchema, {
    usageBytes: 5_000_000_000n,
    expiresAt: 0n,
    fileCounts: { total: 2n ** 53n - 1n },
  });
  expect(writeMessage(VectorStoreSchema, store)).toMatchObject({
    usage_bytes: 5_000_000_000,
    expires_at: 0,
    file_counts: { total: Number.MAX_SAFE_INTEGER, failed: 0 },
  });
});

describe("enums", () => {
  test.each([
    [VectorStoreStatus.EXPIRED, "expired"],
    [VectorStoreStatus.IN_PROGRESS, "in_progress"],
    [VectorStoreStatus.COMPLETED, "completed"],
  ])("are lower-case words: %i is %s", (status, word) => {
    expect(writeMessage(VectorStoreSchema, create(VectorStoreSchema, { status }))["status"]).toBe(word);
  });

  test("of a number without a word are null", () => {
    expect(
      writeMessage(VectorStoreSchema, create(VectorStoreSchema, { status: 99 as never }))["status"],
    ).toBeNull();
  });
});

test("writes a vector that is not there as null, and lists as they are", () => {
  const page = create(ListEmbeddingsResponseSchema, { data: [{ embedding: [] }, { embedding: [0.5, -1] }] });
  const json = writeMessage(ListEmbeddingsResponseSchema, page) as { data: { embedding: unknown }[] };
  expect(json.data.map(({ embedding }) => embedding)).toEqual([null, [0.5, -1]]);
  expect(writeMessage(ListEmbeddingsResponseSchema, create(ListEmbeddingsResponseSchema))["data"]).toEqual(
    [],
  );
});

test("leaves free JSON as it is", () => {
  const metadata = { camelCase: 1, none: null, nested: { list: [1, "a", false, {}] } };
  expect(writeMessage(EmbeddingSchema, create(EmbeddingSchema, { metadata }))["metadata"]).toEqual(metadata);
});

test("writes a value as the JSON it stands for, and messages within messages", () => {
  const filter = create(FilterSchema, {
    type: FilterType.OR,
    filters: [
      {
        type: FilterType.IN,
        key: "k",
        value: {
          kind: { case: "listValue", value: { values: [{ kind: { case: "numberValue", value: 1 } }] } },
        },
      },
    ],
  });
  expect(writeMessage(FilterSchema, filter)).toEqual({
    type: "or",
    key: null,
    value: null,
    value_type: null,
    filters: [{ type: "in", key: "k", value: [1], value_type: null, filters: [] }],
  });
});
