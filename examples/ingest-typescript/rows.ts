/** A file of rows as the batches to send. */
import { createReadStream } from "node:fs";
import { encodeRequest } from "./service.ts";

/** A batch has so many bytes or rows: enough to be fast, few enough to be sent again. */
const BATCH_BYTES = 1024 * 1024;
const BATCH_ROWS = 10_000;

/** Some rows of the file, ready to be sent. */
export interface Batch {
  /** 1, 2, 3, … */
  seq: number;
  /** Line of the file of each row, from 1. */
  lines: number[];
  /** Bytes of these lines in the file. */
  bytes: number;
  /** The encoded message. */
  message: Buffer;
}

/**
 * Reads a file, a line at a time, and cuts it into batches. The cuts depend on the file alone, so that
 * every run of an ingest gives the same rows the same number: only then can it go on where it stood.
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

/** `pgquiver.v1.EmbeddingInput` with its vector as bytes. */
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

/** The vector as little-endian float32. Without one the service embeds the text. */
function readVector(vector: unknown): Buffer {
  if (vector === undefined || vector === null) return Buffer.alloc(0);
  if (typeof vector === "string") return Buffer.from(vector, "base64");
  if (!Array.isArray(vector)) throw new Error("'embedding' must be an array of numbers or base64");
  // Every platform Node.js is built for, but one, is little-endian.
  return Buffer.from(Float32Array.from(vector).buffer);
}

/** google.protobuf.Struct and Value as their protos define them: proto-loader knows nothing of JSON. */
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

/** Lines end with \n and nothing else: JSON may hold the other characters that node:readline splits at. */
async function* readLines(file: string): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of createReadStream(file, { encoding: "utf8" })) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
  if (rest !== "") yield rest;
}
