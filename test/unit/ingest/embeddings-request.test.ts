import { create, fromBinary, fromJson, toBinary, type DescMessage } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { expect, test } from "vitest";
import {
  BatchCreateEmbeddingsRequestSchema,
  type EmbeddingInput,
} from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { keepVectorsPacked, unpackVector } from "../../../src/embeddings/request.ts";

const { input } = keepVectorsPacked().method.batchCreateEmbeddings;

/** Decodes the only row of a request by the service's own descriptor. */
function decode(bytes: Uint8Array) {
  const { embeddings } = fromBinary(input as DescMessage, bytes) as unknown as {
    embeddings: EmbeddingInput[];
  };
  return unpackVector(embeddings[0] as EmbeddingInput);
}

/** A request with one row, whose fields `write` writes. */
function requestOf(write: (row: BinaryWriter) => void): Uint8Array {
  const request = new BinaryWriter();
  request.tag(2, WireType.LengthDelimited).fork();
  write(request);
  return request.join().finish();
}

const packed = (...floats: number[]) => new Uint8Array(Float32Array.from(floats).buffer);

test("a vector as protobuf-es writes it arrives as float32, with the other fields", () => {
  const row = { id: "a", content: "text", embedding: [1.5, -2, 3e38], metadata: { n: 1 }, createdAt: 5n };
  const request = create(BatchCreateEmbeddingsRequestSchema, { embeddings: [row] });
  const decoded = decode(toBinary(BatchCreateEmbeddingsRequestSchema, request));
  expect(decoded).toMatchObject({ ...row, embedding: Float32Array.from(row.embedding) });
});

test("a vector may be packed in several pieces, or number by number", () => {
  const bytes = requestOf((row) => {
    row.tag(3, WireType.LengthDelimited).bytes(packed(1, 2));
    row.tag(3, WireType.Bit32).float(3);
    row.tag(3, WireType.LengthDelimited).bytes(packed());
    row
      .tag(3, WireType.LengthDelimited)
      .bytes(packed(...Array.from({ length: 100 }, (_, index) => index + 4)));
  });
  expect(Array.from(decode(bytes).embedding)).toEqual(Array.from({ length: 103 }, (_, index) => index + 1));
});

test("a row without a vector has none", () => {
  expect(decode(requestOf((row) => row.tag(2, WireType.LengthDelimited).string("text"))).embedding).toEqual(
    [],
  );
});

test.each([
  [
    "a length that is no multiple of four",
    (row: BinaryWriter) => row.tag(3, WireType.LengthDelimited).bytes(new Uint8Array(7)),
  ],
  ["another wire type", (row: BinaryWriter) => row.tag(3, WireType.Varint).uint32(7)],
])("%s is malformed", (_, write) => {
  expect(() => decode(requestOf(write))).toThrow("malformed");
});

test("a vector in JSON arrives by its name", () => {
  const request = fromJson(input as DescMessage, { embeddings: [{ content: "text", embedding: [1, 2] }] });
  const { embeddings } = request as unknown as { embeddings: EmbeddingInput[] };
  expect(unpackVector(embeddings[0] as EmbeddingInput).embedding).toEqual([1, 2]);
});
