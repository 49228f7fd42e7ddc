import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { expect, test } from "vitest";
import { EmbeddingInputSchema } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { IngestBatchSchema } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { decodeBatch, decodeRow, emptyRow } from "../../../src/ingest/binary-batch.ts";

function decode(bytes: Uint8Array) {
  const row = emptyRow();
  decodeRow(Buffer.from(bytes), { start: 0, end: bytes.length }, row);
  const { vector, metadata, ...rest } = row;
  const floats = [...new Float32Array(Uint8Array.from(vector).buffer)];
  return { ...rest, floats, metadata: JSON.parse(metadata) as unknown };
}

test("reads what protobuf-es writes", () => {
  const rows = fc.record({
    id: fc.string({ unit: "binary" }),
    content: fc.string({ unit: "binary" }),
    embedding: fc.array(fc.float({ noNaN: true })),
    metadata: fc.dictionary(fc.string({ unit: "binary" }), fc.jsonValue({ maxDepth: 4 })),
    createdAt: fc.option(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), { nil: undefined }),
  });
  fc.assert(
    fc.property(
      fc.array(rows, { maxLength: 4 }),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      (given, seq) => {
        const message = create(IngestBatchSchema, {
          seq,
          rows: given.map((row) => create(EmbeddingInputSchema, row as never)),
        });
        const batch = decodeBatch(Buffer.from(toBinary(IngestBatchSchema, message)));
        expect(batch.seq).toBe(seq);
        const got = batch.rows.map(({ start, end }) => decode(batch.buffer.subarray(start, end)));
        expect(got).toEqual(
          given.map(({ embedding, metadata, ...row }) => ({
            ...row,
            floats: embedding,
            // As JSON, which knows no -0.
            metadata: JSON.parse(JSON.stringify(metadata)) as unknown,
          })),
        );
      },
    ),
  );
});

test("takes floats packed in one piece, in several, and one by one", () => {
  const packed = (floats: number[]) => new Uint8Array(Float32Array.from(floats).buffer);
  const several = new BinaryWriter();
  several.tag(3, WireType.LengthDelimited).bytes(packed([1, 2]));
  several.tag(3, WireType.Bit32).float(3);
  several.tag(3, WireType.LengthDelimited).bytes(packed([]));
  several.tag(3, WireType.LengthDelimited).bytes(packed([4]));
  several.tag(3, WireType.Bit32).float(5);
  expect(decode(several.finish()).floats).toEqual([1, 2, 3, 4, 5]);
});

test("puts numbers together that come one by one in time that grows with their number only", () => {
  const floats = (count: number) => Buffer.from("1d0000803f".repeat(count), "hex");
  expect(decode(floats(16_000)).floats).toHaveLength(16_000);
  // A copy for each of them would be 1.4 TB.
  expect(() => decode(floats(600_000))).toThrow("Invalid 'embedding': array too long.");
});

test("refuses more rows than a batch may have, and metadata that is too large, while it reads", () => {
  const rows = (count: number) => Buffer.from("1200".repeat(count), "hex");
  expect(decodeBatch(rows(10_000)).rows).toHaveLength(10_000);
  expect(() => decodeBatch(rows(10_001))).toThrow("Invalid 'batch.rows': array too long.");
  const values = Buffer.from("0a00".repeat(20_000), "hex");
  const writer = new BinaryWriter();
  writer.tag(4, WireType.LengthDelimited).fork();
  writer.tag(1, WireType.LengthDelimited).fork();
  writer.tag(2, WireType.LengthDelimited).fork();
  writer.tag(6, WireType.LengthDelimited).bytes(values);
  writer.join().join().join();
  expect(() => decode(writer.finish())).toThrow("Invalid 'metadata': too large.");
});

test("passes fields by that it does not know", () => {
  const writer = new BinaryWriter();
  writer.tag(99, WireType.Varint).uint32(1);
  writer.tag(100, WireType.Bit64).double(1);
  writer.tag(101, WireType.Bit32).float(1);
  writer.tag(102, WireType.LengthDelimited).bytes(Buffer.from("x"));
  writer.tag(2, WireType.LengthDelimited).string("text");
  expect(decode(writer.finish())).toMatchObject({ content: "text" });
});

test("refuses texts that are not UTF-8, rather than change them", () => {
  for (const field of [1, 2]) {
    const writer = new BinaryWriter();
    writer.tag(field, WireType.LengthDelimited).bytes(Buffer.of(0x61, 0xff));
    expect(() => decode(writer.finish())).toThrow("malformed");
  }
  const meant = new BinaryWriter();
  meant.tag(2, WireType.LengthDelimited).string("a\uFFFD");
  expect(decode(meant.finish()).content).toBe("a\uFFFD");
});

test("refuses what ends too early, wherever it is cut, or reads less of it", () => {
  const row = create(EmbeddingInputSchema, {
    id: "id",
    content: "content",
    embedding: [1, 2],
    metadata: { a: { b: [1, "x", true, null] } },
    createdAt: 1_700_000_000n,
  });
  const bytes = toBinary(EmbeddingInputSchema, row);
  const whole = decode(bytes);
  let refused = 0;
  for (let end = 0; end < bytes.length; end++) {
    try {
      expect(decode(bytes.subarray(0, end))).not.toEqual(whole);
    } catch (error) {
      expect((error as Error).message).toContain("malformed");
      refused++;
    }
  }
  // Between two fields a row ends well.
  expect(refused).toBe(bytes.length - 5);
});

test("keeps what came before the fault", () => {
  const deep = JSON.parse(`${'{"a":'.repeat(40)}1${"}".repeat(40)}`) as Record<string, never>;
  const bytes = Buffer.from(
    toBinary(EmbeddingInputSchema, create(EmbeddingInputSchema, { id: "id", metadata: deep })),
  );
  const row = emptyRow();
  expect(() => decodeRow(bytes, { start: 0, end: bytes.length }, row)).toThrow("nested deeper");
  expect(row.id).toBe("id");
});
