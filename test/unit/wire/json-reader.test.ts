import { create, type DescMessage } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import { describe, expect, test } from "vitest";
import {
  BatchCreateEmbeddingsRequestSchema,
  EmbeddingInputSchema,
  ListEmbeddingsRequestSchema,
  type EmbeddingInput,
} from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { FilterType } from "../../../gen/pgquiver/v1/filters_pb.ts";
import { Order } from "../../../gen/pgquiver/v1/paging_pb.ts";
import { SearchRequestSchema } from "../../../gen/pgquiver/v1/search_pb.ts";
import {
  CreateVectorStoreRequestSchema,
  ExpiryAnchor,
  UpdateVectorStoreRequestSchema,
  VectorStoreSchema,
} from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { describeError } from "../../../src/errors.ts";
import { parameterValue, readMessage } from "../../../src/wire/rest/json-reader.ts";

function refusal(desc: DescMessage, json: unknown) {
  try {
    readMessage(desc, json);
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
    return { message: error.rawMessage, ...describeError(error) };
  }
  return expect.unreachable("the message was read");
}

test("reads every kind of field", () => {
  const json = {
    name: "a",
    file_ids: ["f"],
    expires_after: { anchor: "last_active_at", days: 7 },
    metadata: { k: "v" },
    dimensions: 3,
  };
  expect(readMessage(CreateVectorStoreRequestSchema, json)).toEqual(
    create(CreateVectorStoreRequestSchema, {
      name: "a",
      fileIds: ["f"],
      expiresAfter: { anchor: ExpiryAnchor.LAST_ACTIVE_AT, days: 7 },
      metadata: { k: "v" },
      dimensions: 3,
    }),
  );
});

test("null is absent", () => {
  const json = { name: null, file_ids: null, expires_after: null, metadata: null, dimensions: null };
  expect(readMessage(CreateVectorStoreRequestSchema, json)).toEqual(create(CreateVectorStoreRequestSchema));
});

test("reads 64-bit integers from numbers that are exact", () => {
  expect(readMessage(VectorStoreSchema, { usage_bytes: 2 ** 53 - 1 })).toMatchObject({
    usageBytes: 2n ** 53n - 1n,
  });
  expect(refusal(VectorStoreSchema, { usage_bytes: 2 ** 53 })).toMatchObject({
    reason: "INTEGER_ABOVE_MAX_VALUE",
    param: "usage_bytes",
  });
  expect(refusal(VectorStoreSchema, { usage_bytes: "1" })).toMatchObject({ reason: "INVALID_TYPE" });
});

test("reads one text where several can be", () => {
  expect(readMessage(SearchRequestSchema, { query: "a" })).toMatchObject({ query: ["a"] });
  expect(readMessage(SearchRequestSchema, { query: ["a", "b"] })).toMatchObject({ query: ["a", "b"] });
});

test("reads enums from their words only", () => {
  expect(readMessage(ListEmbeddingsRequestSchema, { order: "asc" })).toMatchObject({ order: Order.ASC });
  for (const order of ["ASC", "ORDER_ASC", "unspecified", "", "constructor"]) {
    expect(refusal(ListEmbeddingsRequestSchema, { order })).toMatchObject({
      param: "order",
      message: `Invalid value: '${order}'. Supported values are: 'asc', 'desc'.`,
    });
  }
  expect(refusal(ListEmbeddingsRequestSchema, { order: 1 })).toMatchObject({ reason: "INVALID_TYPE" });
});

test("reads filters, whose values are any JSON", () => {
  const filters = { type: "and", filters: [{ type: "in", key: "k", value: ["a", 1, true, null] }] };
  expect(readMessage(SearchRequestSchema, { filters })).toMatchObject({
    filters: {
      type: FilterType.AND,
      filters: [{ type: FilterType.IN, key: "k", value: { kind: { case: "listValue" } } }],
    },
  });
});

describe("vectors", () => {
  const embedding = [0.5, -1, 1e-3, 3.4e38];

  const read = (value: unknown) => [
    ...(readMessage(EmbeddingInputSchema, { embedding: value }) as EmbeddingInput).embedding,
  ];

  test("are arrays of numbers", () => {
    expect(read(embedding)).toEqual(embedding.map(Math.fround));
  });

  test("beyond float32 become infinite, which the service refuses", () => {
    expect(read([1, 3.5e38])).toEqual([1, Infinity]);
  });

  test("are base64 of little-endian float32", () => {
    expect(read(Buffer.from(Float32Array.from(embedding).buffer).toString("base64"))).toEqual(
      embedding.map(Math.fround),
    );
    expect(read("AACAPw==")).toEqual([1]);
  });

  test.each(["AACAPw", "AACAPw=", "AA-_Pw==", "AACA Pw==", "AACAPw==\n", "A===", "AACA"])(
    "are not %j",
    (text) => {
      expect(refusal(EmbeddingInputSchema, { embedding: text })).toMatchObject({
        reason: "INVALID_VALUE",
        param: "embedding",
      });
    },
  );

  test("are refused at the first number that is none", () => {
    expect(refusal(EmbeddingInputSchema, { embedding: [1, "2", null] })).toMatchObject({
      param: "embedding[1]",
      message: "Invalid type for 'embedding[1]': expected a number, but got a string instead.",
    });
  });
});

describe("update_mask", () => {
  const read = (json: unknown) =>
    readMessage(UpdateVectorStoreRequestSchema, json) as unknown as { updateMask: { paths: string[] } };

  test("is made from the keys that are present, null or not", () => {
    expect(read({ name: null, metadata: { a: "b" } }).updateMask.paths).toEqual(["name", "metadata"]);
    expect(read({}).updateMask.paths).toEqual([]);
  });

  test("is no key itself", () => {
    expect(refusal(UpdateVectorStoreRequestSchema, { update_mask: "name" })).toMatchObject({
      reason: "UNKNOWN_PARAMETER",
    });
  });
});

describe("errors", () => {
  test("name the field by its path", () => {
    const json = { embeddings: [{ content: "a" }, { content: "a", metadata: [] }] };
    expect(refusal(BatchCreateEmbeddingsRequestSchema, json)).toMatchObject({
      param: "embeddings[1].metadata",
      message: "Invalid type for 'embeddings[1].metadata': expected an object, but got an array instead.",
    });
  });

  test.each<[unknown, string]>([
    [null, "null"],
    [[], "an array"],
    [1, "an integer"],
    [1.5, "a decimal number"],
    [true, "a boolean"],
    [{}, "an object"],
  ])("name the type of %j", (value, name) => {
    expect(refusal(CreateVectorStoreRequestSchema, { file_ids: ["a", value] })).toMatchObject({
      param: "file_ids[1]",
      message: expect.stringContaining(`but got ${name} instead`),
    });
  });

  test("stay short whatever the caller sent", () => {
    for (const json of [{ ["k".repeat(1e6)]: 1 }, { order: "o".repeat(1e6) }]) {
      const { message, param } = refusal(ListEmbeddingsRequestSchema, json);
      expect(message.length + String(param).length).toBeLessThan(400);
    }
  });

  test("are given for half a surrogate pair in a text or a key", () => {
    expect(refusal(CreateVectorStoreRequestSchema, { name: "\ud83d" })).toMatchObject({ param: "name" });
    expect(refusal(CreateVectorStoreRequestSchema, { metadata: { "\udc18": "" } })).toMatchObject({
      param: "metadata",
    });
  });

  test("are given for what nests deeper than 100 levels", () => {
    let filters: unknown = { type: "eq", key: "k", value: 1 };
    for (let depth = 0; depth < 50_000; depth++) filters = { type: "and", filters: [filters] };
    expect(refusal(SearchRequestSchema, { filters })).toMatchObject({
      param: "filters",
      message: "Invalid 'filters': nested deeper than 100 levels.",
    });
    let value: unknown = 1;
    for (let depth = 0; depth < 50_000; depth++) value = [value];
    expect(refusal(SearchRequestSchema, { filters: { type: "eq", key: "k", value } })).toMatchObject({
      param: "filters",
    });
  });
});

describe("the text of a query parameter", () => {
  test.each([
    ["limit", "10", 10],
    ["limit", "-1", -1],
    ["limit", "1.5", 1.5],
    ["limit", "1e3", "1e3"],
    ["limit", "0x1f", "0x1f"],
    ["limit", " 1", " 1"],
    ["limit", "", ""],
    ["after", "10", "10"],
    ["order", "asc", "asc"],
    ["include_embedding", "true", true],
    ["include_embedding", "false", false],
    ["include_embedding", "1", "1"],
    ["unknown", "1", "1"],
  ])("%s=%j is read as %j", (name, text, value) => {
    expect(parameterValue(ListEmbeddingsRequestSchema, name, text)).toBe(value);
  });
});
