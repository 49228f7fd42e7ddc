import { Buffer } from "node:buffer";
import { expect, test } from "vitest";
import { CopyEncoder, decodeVector, encodeVector } from "../../../src/postgres/copy.ts";

const header = "5047434f50590aff0d0a00" + "00000000" + "00000000";
const trailer = "ffff";

function hex(segment: Buffer[]): string {
  return Buffer.concat(segment).toString("hex");
}

test("encodes each column type as Postgres reads it", () => {
  const encoder = new CopyEncoder();
  encoder.startRow(6);
  encoder.text("é😀");
  encoder.jsonb("{}");
  encoder.timestamptz(new Date("1999-12-31T23:59:59.999Z"));
  encoder.vector(Float32Array.of(1, -2));
  encoder.int4(-2);
  encoder.null();
  const row = [
    "0006",
    "00000006" + "c3a9f09f9880",
    "00000003" + "01" + "7b7d",
    "00000008" + "fffffffffffffc18",
    "0000000c" + "0002" + "0000" + "3f800000" + "c0000000",
    "00000004" + "fffffffe",
    "ffffffff",
  ];
  expect(encoder.rows).toBe(1);
  expect(encoder.bytes).toBe(row.join("").length / 2);
  expect(hex(encoder.takeSegment())).toBe(header + row.join("") + trailer);
});

test("begins a new segment once one is taken", () => {
  const encoder = new CopyEncoder();
  const segments = ["a", "b"].map((text) => {
    encoder.startRow(1);
    encoder.text(text);
    return hex(encoder.takeSegment());
  });
  expect(segments).toEqual(["61", "62"].map((text) => `${header}000100000001${text}${trailer}`));
  expect([encoder.rows, encoder.bytes]).toEqual([0, 0]);
  expect(hex(encoder.takeSegment())).toBe(header + trailer);
});

test("gathers rows into chunks of at most 256 KiB", () => {
  const encoder = new CopyEncoder();
  const vector = new Float32Array(1536);
  for (let row = 0; row < 500; row++) {
    encoder.startRow(1);
    encoder.vector(vector);
  }
  const bytes = 500 * (2 + 4 + 4 + 4 * vector.length);
  expect(encoder.bytes).toBe(bytes);
  const chunks = encoder.takeSegment();
  expect(Buffer.concat(chunks)).toHaveLength(bytes + 21);
  expect(Math.max(...chunks.map((chunk) => chunk.length))).toBeLessThanOrEqual(256 * 1024);
  expect(chunks.length).toBeLessThan(2 + bytes / (240 * 1024));
});

test("gives a long text a chunk no larger than it needs", () => {
  const encoder = new CopyEncoder();
  encoder.startRow(1);
  encoder.text("é".repeat(1_000_000));
  const chunk = encoder.takeSegment().find((candidate) => candidate.length > 1_000_000);
  expect(chunk?.buffer.byteLength).toBeLessThanOrEqual(2_000_000 + 4);
});

test("reads a vector from little-endian bytes at any offset", () => {
  const floats = Float32Array.of(0.1, -1e-38, 3.4e38);
  const unaligned = new Uint8Array(1 + floats.byteLength);
  unaligned.set(new Uint8Array(floats.buffer), 1);
  expect(encodeVector(unaligned.subarray(1))).toEqual(encodeVector(floats));
});

test("reads a vector from a part of a larger array", () => {
  const floats = Float32Array.of(1, 2, 3, 4);
  expect(encodeVector(floats.subarray(1, 3))).toEqual(encodeVector(Float32Array.of(2, 3)));
});

test("decodes what it encodes, bit for bit, and leaves both unchanged", () => {
  const floats = Float32Array.of(0.1, -0, 1e-45, 3.4028234663852886e38);
  const wire = encodeVector(floats);
  const before = Buffer.from(wire);
  expect(decodeVector(wire)).toEqual(floats);
  expect(wire).toEqual(before);
  expect(floats[0]).toBe(Math.fround(0.1));
});

test("refuses bytes that are no whole number of floats", () => {
  expect(() => encodeVector(new Uint8Array(6))).toThrow(RangeError);
});
