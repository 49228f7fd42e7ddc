/** Reads a file of rows as batches. */
import { createReadStream } from "node:fs";
import { encodeRequest } from "./service.ts";

/** A batch is complete at this many bytes or rows: large enough to be fast, small enough to resend. */
const BATCH_BYTES = 1024 * 1024;
const BATCH_ROWS = 10_000;

/** A batch: consecutive rows of the file, already encoded. */
export interface Batch {
  /** Number of the batch: 1, 2, 3, … */
  seq: number;
  /** Line number of each row in the file, from 1. */
  lines: number[];
  /** Bytes of the batch's lines in the file. */
  bytes: number;
  /** The encoded `IngestRequest`. */
  message: Buffer;
}

/**
 * Reads a file line by line and splits it into batches. The split must depend only on the file: resuming is
 * correct only if every run gives the same rows the same batch number.
 */
export async function* readBatches(file: string): AsyncGenerator<Batch> {
  let seq = 0;
  let line = 0;
  let rows: Row[] = [];
  let lines: number[] = [];
  let bytes = 0;
  let size = 0;
  const cut = (): Batch => {
    seq++;
    const batch = { seq, lines, bytes, message: encodeRequest({ batch: { seq, rows } }) };
    rows = [];
    lines = [];
    bytes = size = 0;
    return batch;
  };
  for await (const text of readLines(file)) {
    line++;
    bytes += Buffer.byteLength(text) + 1;
    if (text.trim() === "") continue;
    const row = readRow(text, `${file}, line ${line}`);
    rows.push(row);
    lines.push(line);
    size += row.embedding.length + Buffer.byteLength(row.content) + JSON.stringify(row.metadata).length;
    if (size >= BATCH_BYTES || rows.length === BATCH_ROWS) yield cut();
  }
  if (rows.length > 0) yield cut();
}

/** `pgquiver.v1.EmbeddingInput` with the vector as bytes. */
interface Row {
  id: string;
  content: string;
  embedding: Buffer;
  metadata: object;
  created_at: number | undefined;
}

function readRow(text: string, place: string): Row {
  try {
    const { id = "", content, embedding, metadata, created_at } = JSON.parse(text);
    if (typeof content !== "string") throw new Error("'content' must be a string");
    return {
      id,
      content,
      embedding: readVector(embedding),
      metadata: toStruct(metadata ?? {}),
      created_at: created_at ?? undefined,
    };
  } catch (error) {
    throw new Error(`${place}: ${(error as Error).message}`, { cause: error });
  }
}

/**
 * Encodes a vector as little-endian float32; empty without a vector, and the service then embeds the text.
 */
function readVector(vector: unknown): Buffer {
  if (vector === undefined || vector === null) return Buffer.alloc(0);
  if (typeof vector === "string") return Buffer.from(vector, "base64");
  if (!Array.isArray(vector)) throw new Error("'embedding' must be an array of numbers or base64");
  // Float32Array has the platform's byte order: little-endian on nearly every platform of Node.js, but not on
  // s390x.
  return Buffer.from(Float32Array.from(vector).buffer);
}

/** Converts an object to google.protobuf.Struct: proto-loader has no JSON mapping of Struct and Value. */
function toStruct(object: object): { fields: Record<string, object> } {
  return { fields: Object.fromEntries(Object.entries(object).map(([key, value]) => [key, toValue(value)])) };
}

function toValue(value: unknown): object {
  if (value === null) return { nullValue: 0 };
  if (Array.isArray(value)) return { listValue: { values: value.map(toValue) } };
  if (typeof value === "string") return { stringValue: value };
  if (typeof value === "number") return { numberValue: value };
  if (typeof value === "boolean") return { boolValue: value };
  return { structValue: toStruct(value as object) };
}

/**
 * Splits a file at \n only: node:readline also splits at U+2028 and U+2029, which JSON strings may contain.
 */
async function* readLines(file: string): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of createReadStream(file, { encoding: "utf8" })) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
  if (rest !== "") yield rest;
}
