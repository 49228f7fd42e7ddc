import { readFileSync } from "node:fs";
import { join } from "node:path";
import { create, fromBinary, getOption, hasOption, toBinary, type DescMessage } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DiagnosticsService } from "../../../gen/pgquiver/v1/diagnostics_pb.ts";
import {
  BatchCreateEmbeddingsRequestSchema,
  EmbeddingInputSchema,
  EmbeddingService,
} from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import { FilterSchema } from "../../../gen/pgquiver/v1/filters_pb.ts";
import { IndexService } from "../../../gen/pgquiver/v1/indexes_pb.ts";
import { IngestBatchSchema, IngestService } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { EmbedRequestSchema, ModelService } from "../../../gen/pgquiver/v1/models_pb.ts";
import { max_items, max_request_bytes } from "../../../gen/pgquiver/v1/options_pb.ts";
import {
  BatchSearchRequestSchema,
  SearchRequestSchema,
  SearchService,
} from "../../../gen/pgquiver/v1/search_pb.ts";
import {
  CreateVectorStoreFileBatchRequestSchema,
  CreateVectorStoreFileRequestSchema,
  VectorStoreFileService,
} from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import {
  CreateVectorStoreRequestSchema,
  VectorStoreService,
} from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { keepBatchesEncoded } from "../../../src/ingest/binary-batch.ts";
import { limits } from "../../../src/limits.ts";
import { checkJson } from "../../../src/wire/limits/json-scan.ts";
import { checkProtobuf } from "../../../src/wire/limits/protobuf-scan.ts";
import { requestLimits } from "../../../src/wire/limits/request-limits.ts";
import { shapeOf } from "../../../src/wire/limits/shape.ts";

const services = [
  DiagnosticsService,
  EmbeddingService,
  FileService,
  IndexService,
  IngestService,
  keepBatchesEncoded(),
  ModelService,
  SearchService,
  VectorStoreFileService,
  VectorStoreService,
];

/** Every message that a request can contain, but those of google.protobuf. */
function requestMessages(): Set<DescMessage> {
  const found = new Set<DescMessage>();
  const collect = (message: DescMessage | undefined) => {
    if (message === undefined || found.has(message) || message.typeName.startsWith("google.protobuf."))
      return;
    found.add(message);
    for (const field of message.fields) collect(field.message);
  };
  for (const { input } of services.flatMap(({ methods }) => methods)) collect(input);
  return found;
}

test("every list, map and free-form value of a request has a maximum in the proto", () => {
  const countless = [...requestMessages()]
    .flatMap(({ fields }) => fields)
    .filter(
      (field) =>
        field.fieldKind === "list" ||
        field.fieldKind === "map" ||
        field.message?.typeName.startsWith("google.protobuf.") === true,
    );
  expect(countless.length).toBeGreaterThan(15);
  for (const field of countless) expect(hasOption(field, max_items), field.toString()).toBe(true);
});

test.each<[DescMessage, string, number]>([
  [BatchSearchRequestSchema, "searches", limits.batch_searches_max],
  [SearchRequestSchema, "query", limits.search_queries_max],
  [SearchRequestSchema, "embedding", limits.dimensions_max],
  [FilterSchema, "filters", limits.filter_conditions_max],
  [FilterSchema, "value", limits.filter_list_items_max],
  [BatchCreateEmbeddingsRequestSchema, "embeddings", limits.batch_rows_max],
  [EmbeddingInputSchema, "embedding", limits.dimensions_max],
  // The shortest item of a list is two bytes of JSON.
  [EmbeddingInputSchema, "metadata", limits.metadata_bytes_max / 2],
  [IngestBatchSchema, "rows", limits.batch_rows_max],
  [EmbedRequestSchema, "input", limits.embed_tokens_max + limits.embed_texts_max],
  [CreateVectorStoreRequestSchema, "file_ids", limits.store_files_max],
  [CreateVectorStoreRequestSchema, "metadata", limits.store_metadata_pairs_max],
  [CreateVectorStoreFileBatchRequestSchema, "file_ids", limits.batch_files_max],
  [CreateVectorStoreFileBatchRequestSchema, "files", limits.batch_files_max],
  [CreateVectorStoreFileRequestSchema, "attributes", limits.attribute_pairs_max + limits.file_readers_max],
])("the proto says of %s.%s what limits.ts says", (message, name, max) => {
  const field = message.fields.find((candidate) => candidate.name === name);
  expect(field && getOption(field, max_items)).toBe(max);
});

test("a request has 1 MiB unless its RPC says otherwise, and never more than the service allows", () => {
  const { method } = VectorStoreService;
  expect(requestLimits(method.createVectorStore, 32 * 1024 * 1024).bytesMax).toBe(1024 * 1024);
  expect(requestLimits(method.createVectorStore, 1024).bytesMax).toBe(1024);
  expect(requestLimits(SearchService.method.search, 32 * 1024 * 1024).bytesMax).toBe(8 * 1024 * 1024);
  expect(requestLimits(SearchService.method.batchSearch, 32 * 1024 * 1024).bytesMax).toBe(32 * 1024 * 1024);
});

test("docs/api.md lists the RPCs that allow more than 1 MiB", () => {
  const page = readFileSync(join(import.meta.dirname, "../../../docs/api.md"), "utf8");
  const listed = [...page.matchAll(/^\| `(\w+)` \| (?:([\d,]+)|`REQUEST_BYTES_MAX`) \|$/gm)];
  const allowing = services
    .flatMap(({ methods }) => methods)
    .filter((method) => hasOption(method, max_request_bytes))
    .map((method) => [method.name, getOption(method, max_request_bytes)]);
  const said = listed.map(([, rpc = "", bytes]) => [rpc, Number(bytes?.replaceAll(",", "") ?? 2 ** 30)]);
  expect(Object.fromEntries(said)).toEqual(Object.fromEntries(allowing));
});

const scanJson = (text: string, desc: DescMessage = BatchSearchRequestSchema) =>
  checkJson(Buffer.from(text), shapeOf(desc));
const many = (count: number) => `[${Array(count).fill("{}").join(",")}]`;
const tooMany =
  "Invalid 'searches': array too long. Expected an array with maximum length 100, but got an array with length 101 instead.";

describe("JSON", () => {
  test("is counted right whatever comes before", () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.string(), fc.constantFrom(undefined, " ", "\t"), (value, key, space) => {
        const before = JSON.stringify({ [`x${key}`]: value }, null, space).slice(0, -1);
        scanJson(`${before},"searches":${many(100)}}`);
        expect(() => scanJson(`${before},"searches":${many(101)}}`)).toThrow(tooMany);
      }),
    );
  });

  test.each([
    ["with a byte order mark, which Connect's decoder drops", "\uFEFF{", "searches"],
    ["with an escape in the key", "{", "\\u0073earches"],
    ["after a key that is long", `{"${"k".repeat(1000)}":"\\\\\\"[",`, "searches"],
    ["in a list of another kind", '{"searches":[[1,2],null,"]"],', "searches"],
  ])("is counted %s", (_, head, key) => {
    expect(() => scanJson(`${head}"${key}":${many(101)}}`)).toThrow(tooMany);
  });

  test.each<[string, string, DescMessage, string]>([
    [
      "a field of a message in a list",
      `{"searches":[{},{"query":[${'"a",'.repeat(16)}"a"]}]}`,
      BatchSearchRequestSchema,
      "searches[1].query",
    ],
    ["numbers", `{"embedding":[${"0,".repeat(16_000)}0]}`, SearchRequestSchema, "embedding"],
    [
      "lists where numbers belong",
      `{"embedding":[${"[],".repeat(16_000)}[]]}`,
      SearchRequestSchema,
      "embedding",
    ],
    [
      "values of an object, nested ones too",
      `{"metadata":{"a":[${"{},".repeat(32_768)}{}]}}`,
      EmbeddingInputSchema,
      "metadata",
    ],
    [
      "by its name in protobuf's own JSON",
      `{"fileIds":[${'"f",'.repeat(500)}"f"]}`,
      CreateVectorStoreRequestSchema,
      "file_ids",
    ],
  ])("names %s", (_, text, desc, param) => {
    expect(() => scanJson(text, desc)).toThrow(`Invalid '${param}': `);
  });

  test.each([
    ["of an unknown key", `{"x":[${"[],".repeat(limits.request_values_max)}0]}`],
    ["of nested lists", `{"x":${"[".repeat(limits.request_values_max + 2)}`],
    ["before the text ends too early", `{"x":[${"1,".repeat(limits.request_values_max)}1`],
    ["in the same key again and again", `{${'"rewriteQuery":[],'.repeat(limits.request_values_max)}"x":1}`],
  ])("has a maximum of values %s", (_, text) => {
    expect(() => scanJson(text)).toThrow("more than 500000 values");
  });

  test("that is none is left to the parser", () => {
    for (const text of ["", "{", "[1,2", '{"a"', '{"a":', '{"a":1', '{"a":tru"e"}', "nonsense", '{"a":"\\'])
      scanJson(text);
  });
});

const scan = (bytes: Uint8Array, desc: DescMessage = BatchSearchRequestSchema) =>
  checkProtobuf(bytes, shapeOf(desc));
const emptySearches = (count: number) => Buffer.from("1200".repeat(count), "hex");

describe("protobuf", () => {
  test("is counted right whatever comes before", () => {
    const unknown = fc.tuple(
      fc.integer({ min: 100, max: 1000 }),
      fc.constantFrom(WireType.Varint, WireType.Bit32, WireType.Bit64, WireType.LengthDelimited),
      fc.uint8Array(),
    );
    fc.assert(
      fc.property(fc.array(unknown), fc.string({ unit: "binary" }), (fields, storeId) => {
        const writer = new BinaryWriter();
        for (const [number, type, bytes] of fields) {
          writer.tag(number, type);
          if (type === WireType.Varint) writer.uint32(bytes.length);
          else if (type === WireType.Bit32) writer.fixed32(1);
          else if (type === WireType.Bit64) writer.double(1);
          else writer.bytes(bytes);
        }
        writer.tag(1, WireType.LengthDelimited).string(storeId);
        const before = writer.finish();
        scan(Buffer.concat([before, emptySearches(100)]));
        expect(() => scan(Buffer.concat([before, emptySearches(101)]))).toThrow(tooMany);
      }),
    );
  });

  test("passes what protobuf-es writes, and what other encoders do", () => {
    const rows = fc.record({
      content: fc.string({ unit: "binary" }),
      embedding: fc.array(fc.float()),
      metadata: fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue({ maxDepth: 4 })),
    });
    fc.assert(
      fc.property(fc.array(rows, { maxLength: 4 }), (given) => {
        const embeddings = given.map((row) => create(EmbeddingInputSchema, row as never));
        const message = create(BatchCreateEmbeddingsRequestSchema, { vectorStoreId: "s", embeddings });
        scan(toBinary(BatchCreateEmbeddingsRequestSchema, message), BatchCreateEmbeddingsRequestSchema);
      }),
    );
    const unpacked = (count: number) => Buffer.from("1d00000000".repeat(count), "hex");
    scan(unpacked(16_000), SearchRequestSchema);
    expect(() => scan(unpacked(16_001), SearchRequestSchema)).toThrow("Invalid 'embedding': array too long.");
  });

  test("a map and an object with their maximum pass, and with one pair more do not", () => {
    for (const [desc, name, max] of [
      [CreateVectorStoreRequestSchema, "metadata", 16],
      [CreateVectorStoreFileRequestSchema, "attributes", 272],
    ] as const) {
      const encode = (count: number) =>
        toBinary(
          desc,
          create(desc, {
            [name]: Object.fromEntries(Array.from({ length: count }, (_, index) => [`k${index}`, "v"])),
          }),
        );
      scan(encode(max), desc);
      expect(() => scan(encode(max + 1), desc)).toThrow(
        `Invalid '${name}': too many properties. Expected at most ${max}, but got ${max + 1} instead.`,
      );
    }
  });

  test("reads no field otherwise than the decoder does", () => {
    // max_num_results with a length: a decoder that ignores the wire type reads what the length covers as fields.
    const hidden = Buffer.concat([Buffer.from("22ca01", "hex"), emptySearches(101)]);
    expect(() => scan(hidden, SearchRequestSchema)).toThrow("parse binary");
    // A field that is longer than the message it is in.
    expect(() => scan(Buffer.from("2a010a0561", "hex"), SearchRequestSchema)).toThrow("parse binary");
    expect(() => fromBinary(SearchRequestSchema, Buffer.from("0b0c", "hex"))).toThrow();
    expect(() => scan(Buffer.from("0b0c", "hex"), SearchRequestSchema)).toThrow("parse binary");
  });

  test("takes as many levels as the decoder does", () => {
    const field = (number: number, bytes: Uint8Array) =>
      Buffer.from(new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(bytes).finish());
    const nested = (levels: number) => {
      let filter = Buffer.alloc(0);
      for (let level = 0; level < levels; level++) filter = field(4, filter);
      return field(5, filter);
    };
    scan(nested(98), SearchRequestSchema);
    fromBinary(SearchRequestSchema, nested(98));
    expect(() => scan(nested(99), SearchRequestSchema)).toThrow("nested too deeply");
    expect(() => fromBinary(SearchRequestSchema, nested(99))).toThrow("recursion");
  });

  test("a message field is given once: merging the second into a large first one takes long", () => {
    expect(() => scan(Buffer.from("22002200", "hex"), EmbeddingInputSchema)).toThrow("given more than once");
  });

  test.each([
    ["that are unknown", Buffer.from("7800".repeat(limits.request_values_max + 1), "hex")],
    ["that are texts", Buffer.from("0a00".repeat(8 * limits.request_values_max + 1), "hex")],
  ])("has a maximum of fields %s", (_, bytes) => {
    expect(() => scan(bytes)).toThrow("more than 500000 values");
  });

  test("a list that fills a message is named", () => {
    expect(() => scan(emptySearches(16 * 1024 * 1024))).toThrow("Invalid 'searches': array too long.");
  });
});
