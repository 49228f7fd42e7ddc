import { clone, create, createFileRegistry, type DescFile, type DescService } from "@bufbuild/protobuf";
import {
  FieldDescriptorProto_Type,
  FieldDescriptorProtoSchema,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
  type FileDescriptorProto,
} from "@bufbuild/protobuf/wkt";
import { WireType } from "@bufbuild/protobuf/wire";
import { IngestRequestSchema, IngestService } from "../../gen/pgquiver/v1/ingest_pb.ts";
import { invalidArgument } from "../errors.ts";
import { limits } from "../limits.ts";
import { ProtobufCursor } from "./protobuf-cursor.ts";

/** The largest field number there is; no field of ours comes near it. */
const SPARE_NUMBER = 536_870_911;

/**
 * Copies IngestService so that a batch that comes in binary stays encoded: on the wire a message and `bytes` are the
 * same, so the copy has the field `encoded_batch` of type `bytes` under the number of `batch`. Batches in JSON, where
 * names count and not numbers, still arrive as `batch`. The reason is speed: protobuf-es takes 41 microseconds to
 * decode a row of 1,536 dimensions and leaves much to the garbage collector, `decodeRow` takes less than two.
 */
export function keepBatchesEncoded(): typeof IngestService {
  const files = new Map<string, DescFile>();
  const collect = (file: DescFile) => {
    file.dependencies.forEach(collect);
    files.set(file.proto.name, file);
  };
  collect(IngestService.file);
  const file = [...files.values()].map(({ proto }) => {
    const copy = clone(FileDescriptorProtoSchema, proto);
    if (proto.name === IngestService.file.proto.name) encodeBatch(copy);
    return copy;
  });
  const registry = createFileRegistry(create(FileDescriptorSetSchema, { file }));
  // The type knows nothing of the added field: see ReceivedIngest.
  return registry.getService(IngestService.typeName) as DescService as typeof IngestService;
}

function encodeBatch(file: FileDescriptorProto): void {
  const request = file.messageType.find(({ name }) => name === IngestRequestSchema.name);
  const batch = request?.field.find(({ name }) => name === "batch");
  if (request === undefined || batch === undefined) throw new Error("IngestRequest has no field 'batch'");
  const encoded = clone(FieldDescriptorProtoSchema, batch);
  encoded.name = "encoded_batch";
  encoded.jsonName = "encodedBatch";
  encoded.type = FieldDescriptorProto_Type.BYTES;
  encoded.typeName = "";
  batch.number = SPARE_NUMBER;
  request.field.push(encoded);
}

/** An IngestBatch in binary: its number, and where its rows are. */
export interface BatchBytes {
  seq: bigint;
  buffer: Buffer;
  rows: RowPlace[];
}

/** The first byte of a row and the byte after its last. */
export interface RowPlace {
  start: number;
  end: number;
}

/** Finds the rows of an encoded batch. */
export function decodeBatch({ buffer: memory, byteOffset, length }: Uint8Array): BatchBytes {
  const buffer = Buffer.from(memory, byteOffset, length);
  const batch: BatchBytes = { seq: 0n, buffer, rows: [] };
  const cursor = new ProtobufCursor(buffer, 0, buffer.length);
  while (cursor.next()) {
    if (cursor.is(1, WireType.Varint)) batch.seq = BigInt.asIntN(64, cursor.uint64());
    else if (cursor.is(2, WireType.LengthDelimited)) {
      const end = cursor.startMessage();
      batch.rows.push({ start: cursor.position, end });
      cursor.position = end;
    } else cursor.skip();
  }
  return batch;
}

/** A row of an ingest as it came in binary. */
export interface RowBytes {
  id: string;
  content: string;
  /** Little-endian float32, in the memory of the message. */
  vector: Uint8Array;
  /** JSON text. */
  metadata: string;
  createdAt: bigint | undefined;
}

const NONE = Buffer.alloc(0);

/** A row without anything. */
export function emptyRow(): RowBytes {
  return { id: "", content: "", vector: NONE, metadata: "{}", createdAt: undefined };
}

/**
 * Decodes an EmbeddingInput into an empty row, its vector left as it is and its metadata made JSON text at
 * once. When it throws, the row has what came before the fault.
 */
export function decodeRow(buffer: Buffer, { start, end }: RowPlace, row: RowBytes): void {
  const cursor = new ProtobufCursor(buffer, start, end);
  while (cursor.next()) {
    if (cursor.is(1, WireType.LengthDelimited)) row.id = cursor.text();
    else if (cursor.is(2, WireType.LengthDelimited)) row.content = cursor.text();
    else if (cursor.is(3, WireType.LengthDelimited)) row.vector = append(row.vector, cursor.bytes());
    else if (cursor.is(3, WireType.Bit32)) row.vector = append(row.vector, cursor.fixed(4));
    else if (cursor.is(4, WireType.LengthDelimited)) row.metadata = decodeStruct(cursor, 1);
    else if (cursor.is(5, WireType.Varint)) row.createdAt = BigInt.asIntN(64, cursor.uint64());
    else cursor.skip();
  }
}

/** Packed floats may come in one piece, in several, or one by one. */
function append(known: Uint8Array, piece: Uint8Array): Uint8Array {
  return known.length === 0 ? piece : Buffer.concat([known, piece]);
}

/** google.protobuf.Struct: `map<string, Value> fields = 1`. Of a key that repeats, jsonb keeps the last. */
function decodeStruct(cursor: ProtobufCursor, depth: number): string {
  return joinFields(cursor, depth, "{", "}", () => {
    let key = "";
    let value = "null";
    cursor.within(() => {
      if (cursor.is(1, WireType.LengthDelimited)) key = cursor.text();
      else if (cursor.is(2, WireType.LengthDelimited)) value = decodeValue(cursor, depth);
      else cursor.skip();
    });
    return `${JSON.stringify(key)}:${value}`;
  });
}

/** google.protobuf.ListValue: `repeated Value values = 1`. */
function decodeList(cursor: ProtobufCursor, depth: number): string {
  return joinFields(cursor, depth, "[", "]", () => decodeValue(cursor, depth));
}

/** Joins what `decode` makes of each field 1. */
function joinFields(
  cursor: ProtobufCursor,
  depth: number,
  open: string,
  close: string,
  decode: () => string,
): string {
  if (depth > limits.metadata_depth_max) {
    const message = `Invalid 'metadata': nested deeper than ${limits.metadata_depth_max} levels.`;
    throw invalidArgument("metadata", message);
  }
  let json = open;
  cursor.within(() => {
    if (!cursor.is(1, WireType.LengthDelimited)) cursor.skip();
    else json += json === open ? decode() : `,${decode()}`;
  });
  return json + close;
}

/** google.protobuf.Value: null_value 1, number_value 2, string_value 3, bool_value 4, struct_value 5, list_value 6. */
function decodeValue(cursor: ProtobufCursor, depth: number): string {
  let value = "null";
  cursor.within(() => {
    if (cursor.is(2, WireType.Bit64)) value = toJson(cursor.double());
    else if (cursor.is(3, WireType.LengthDelimited)) value = JSON.stringify(cursor.text());
    else if (cursor.is(4, WireType.Varint)) value = String(cursor.uint64() !== 0n);
    else if (cursor.is(5, WireType.LengthDelimited)) value = decodeStruct(cursor, depth + 1);
    else if (cursor.is(6, WireType.LengthDelimited)) value = decodeList(cursor, depth + 1);
    else {
      value = "null";
      cursor.skip();
    }
  });
  return value;
}

function toJson(number: number): string {
  if (Number.isFinite(number)) return JSON.stringify(number);
  throw invalidArgument("metadata", "Invalid 'metadata': JSON has no NaN and no infinities.");
}
