import { isUtf8 } from "node:buffer";
import type { Readable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { createGunzip } from "node:zlib";
import { create, type DescMessage, type Message } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import type { FastifyRequest } from "fastify";
import { EmbeddingInputSchema, type EmbeddingInput } from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { IngestRequestSchema, type IngestRequest } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { cancelled, invalidArgument, tooLarge } from "../../errors.ts";
import { UnreadableRow, type ReceivedIngest } from "../../api/received-ingest.ts";
import { checkJson } from "../limits/json-scan.ts";
import { shapeOf } from "../limits/shape.ts";
import { parameterValue, readMessage } from "./json-reader.ts";
import { writeMessage } from "./json-writer.ts";

type Json = Record<string, unknown>;

/** Accepted content types of an NDJSON upload; undefined: a request without a content type. */
export const NDJSON_TYPES = ["application/x-ndjson", "application/ndjson", "application/jsonl", undefined];

/**
 * A batch ends after BATCH_ROWS lines, or as soon as its lines reach BATCH_BYTES, because a batch is held in
 * memory. Both numbers are part of the API's contract: batches are numbered, so a resumed upload must be
 * split at the same lines.
 */
const BATCH_ROWS = 100;
const BATCH_BYTES = 4 * 1024 * 1024;

/**
 * Maximum length of a line in bytes: enough for a row with 16,000 dimensions as decimal numbers, text and
 * metadata.
 */
const LINE_BYTES_MAX = 4 * 1024 * 1024;

/**
 * Reads an NDJSON upload as the messages of an ingest stream. The query parameters are the fields of `open`,
 * and the header Idempotency-Key is `ingest_id`. A batch is 100 lines, or fewer if they reach 4 MiB. A last
 * line `{"finish": {…}}` finishes the stream; unless `atomicity` is stream, so does the end of the body. An
 * invalid line becomes a refused row.
 */
export async function* readIngest(request: FastifyRequest): AsyncGenerator<ReceivedIngest> {
  const { vector_store_id: storeId = "" } = request.params as { vector_store_id?: string };
  yield readOpen(request, storeId);
  let rows: (EmbeddingInput | UnreadableRow)[] = [];
  let bytes = 0;
  let seq = 0n;
  let total = 0n;
  let finish: Message | undefined;
  const batch = (): ReceivedIngest => ({ message: { case: "batch", value: { seq: ++seq, rows } } });
  for await (const line of readLines(request)) {
    if (finish !== undefined) throw invalidArgument("finish", "Nothing may follow the line with 'finish'.");
    const row = readRow(line, total + 1n);
    if (isClosing(row)) {
      finish = readMessage(IngestRequestSchema, row);
      continue;
    }
    total++;
    rows.push(row);
    bytes += line.length;
    if (rows.length < BATCH_ROWS && bytes < BATCH_BYTES) continue;
    yield batch();
    rows = [];
    bytes = 0;
  }
  if (rows.length > 0) yield batch();
  if (finish !== undefined) yield finish as IngestRequest;
  else if ((request.query as Json)["atomicity"] !== "stream") {
    yield create(IngestRequestSchema, { message: { case: "finish", value: { rows: total } } });
  }
}

/** Converts a line to a message. Throws INVALID_ARGUMENT for an invalid line. */
export function readLine(desc: DescMessage, line: Buffer): Message {
  return readMessage(desc, parseLine(desc, line, "A line"));
}

/** Writes the messages of a stream as NDJSON. */
export async function* writeLines(
  desc: DescMessage,
  messages: AsyncIterable<Message>,
): AsyncGenerator<string> {
  for await (const message of messages) yield `${JSON.stringify(writeMessage(desc, message))}\n`;
}

function readOpen(request: FastifyRequest, storeId: string): IngestRequest {
  const fields = IngestRequestSchema.fields.find((field) => field.name === "open")?.message as DescMessage;
  const open: Json = {};
  for (const [name, text] of Object.entries(request.query as Json)) {
    if (name === "vector_store_id" || name === "ingest_id")
      throw invalidArgument(name, `Unknown parameter: '${name}'.`, "UNKNOWN_PARAMETER");
    if (typeof text !== "string") throw invalidArgument(name, `Invalid '${name}': given more than once.`);
    open[name] = parameterValue(fields, name, text);
  }
  open["vector_store_id"] = storeId;
  const key = request.headers["idempotency-key"];
  if (key !== undefined) open["ingest_id"] = key;
  return create(IngestRequestSchema, {
    message: { case: "open", value: readMessage(fields, open) as never },
  });
}

function isClosing(row: EmbeddingInput | UnreadableRow | Json): row is Json {
  return !("$typeName" in row || row instanceof UnreadableRow);
}

/** Reads a row, or the JSON of the closing line `{"finish": …}`. */
function readRow(line: Buffer, number: bigint): EmbeddingInput | UnreadableRow | Json {
  try {
    const json = parseLine(EmbeddingInputSchema, line, `Line ${number}`);
    if (typeof json === "object" && json !== null && "finish" in json) return json as Json;
    return readMessage(EmbeddingInputSchema, json) as EmbeddingInput;
  } catch (error) {
    if (error instanceof ConnectError) return new UnreadableRow(error);
    throw error;
  }
}

/** Parses a line of JSON, which is a message of the type `desc`. Throws INVALID_ARGUMENT, whose message begins with `noun`. */
function parseLine(desc: DescMessage, line: Buffer, noun: string): unknown {
  if (!isUtf8(line)) throw invalidArgument(undefined, `${noun} is not UTF-8.`, "INVALID_JSON");
  checkJson(line, shapeOf(desc));
  try {
    return JSON.parse(line.toString("utf8")) as unknown;
  } catch (error) {
    throw invalidArgument(
      undefined,
      `${noun} is not valid JSON: ${(error as Error).message}`,
      "INVALID_JSON",
    );
  }
}

function decode(request: FastifyRequest): Readable {
  const body = request.raw;
  const encoding = request.headers["content-encoding"]?.toLowerCase() ?? "identity";
  if (encoding === "identity") return body;
  if (encoding !== "gzip")
    throw invalidArgument(
      undefined,
      `Unsupported content encoding '${encoding}': send gzip or none.`,
      "INVALID_REQUEST",
    );
  const gunzip = createGunzip();
  body.once("close", () => {
    if (!body.readableEnded) gunzip.destroy(cancelled());
  });
  return body.pipe(gunzip);
}

/**
 * Splits a body, gunzipped if need be, into lines; empty lines are skipped. Throws REQUEST_TOO_LARGE for a
 * line longer than LINE_BYTES_MAX, which bounds the memory used.
 */
export async function* readLines(request: FastifyRequest): AsyncGenerator<Buffer> {
  const body = decode(request);
  let parts: Buffer[] = [];
  let bytes = 0;
  const take = (last: Buffer): Buffer | undefined => {
    const line = parts.length === 0 ? last : Buffer.concat([...parts, last]);
    parts = [];
    bytes = 0;
    return isBlank(line) ? undefined : line;
  };
  try {
    // Without `destroyOnReturn: false` an early exit would destroy the request, and with it the connection,
    // before the error response is sent.
    for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      let start = 0;
      for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
        const line = take(chunk.subarray(start, end));
        start = end + 1;
        if (line !== undefined) yield line;
      }
      parts.push(chunk.subarray(start));
      bytes += chunk.length - start;
      if (bytes > LINE_BYTES_MAX) throw tooLarge(`A line is longer than ${LINE_BYTES_MAX} bytes.`);
    }
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    // zlib's error codes are strings such as Z_DATA_ERROR; those of ConnectErrors are numbers.
    if (String(code).startsWith("Z_"))
      throw invalidArgument(undefined, `The body is not valid gzip: ${message}`, "INVALID_REQUEST");
    throw code === "ECONNRESET" || code === "ERR_STREAM_PREMATURE_CLOSE" ? cancelled(error) : error;
  } finally {
    if (body !== request.raw) body.destroy();
  }
  // A cancelled HTTP/2 upload may send END_STREAM before RST_STREAM, and looks complete until the next turn
  // of the event loop.
  await setImmediate();
  if (request.raw.aborted) throw cancelled();
  const line = take(Buffer.alloc(0));
  if (line !== undefined) yield line;
}

function isBlank(line: Buffer): boolean {
  return line.length === 0 || (line.length === 1 && line[0] === 13);
}
