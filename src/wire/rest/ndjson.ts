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
import { parameterValue, readMessage } from "./json-reader.ts";
import { writeMessage } from "./json-writer.ts";

type Json = Record<string, unknown>;

/** The content types an upload of NDJSON may have; undefined stands for none. */
export const NDJSON_TYPES = ["application/x-ndjson", "application/ndjson", "application/jsonl", undefined];

/**
 * Lines of one batch, and bytes of them after which it ends sooner, since a batch is held in memory.
 * They are part of the contract: a resumed upload must be cut at the same places.
 */
const BATCH_ROWS = 100;
const BATCH_BYTES = 4 * 1024 * 1024;

/** Bytes of one line: a row with 16,000 dimensions as decimal numbers and its text and metadata fits. */
const LINE_BYTES_MAX = 4 * 1024 * 1024;

/**
 * Reads an upload of rows as the messages of an ingest stream. Query parameters are the fields of
 * `open`, the Idempotency-Key header is its `ingest_id`. Every 100 lines, or fewer that make up 4 MiB,
 * become a batch; a last line `{"finish": {…}}`, or the end of the body, finishes the stream. A line
 * that cannot be read is a refused row like any other.
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

/** Reads one message from its line. What cannot be read is INVALID_ARGUMENT. */
export function readLine(desc: DescMessage, line: Buffer): Message {
  return readMessage(desc, parseLine(line, "A line"));
}

/** Writes a stream of replies as lines. */
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

/** A row, or the closing line as it is. */
function readRow(line: Buffer, number: bigint): EmbeddingInput | UnreadableRow | Json {
  try {
    const json = parseLine(line, `Line ${number}`);
    if (typeof json === "object" && json !== null && "finish" in json) return json as Json;
    return readMessage(EmbeddingInputSchema, json) as EmbeddingInput;
  } catch (error) {
    if (error instanceof ConnectError) return new UnreadableRow(error);
    throw error;
  }
}

/** Parses a line of JSON; `noun` begins the message of the INVALID_ARGUMENT where the line is none. */
function parseLine(line: Buffer, noun: string): unknown {
  if (!isUtf8(line)) throw invalidArgument(undefined, `${noun} is not UTF-8.`, "INVALID_JSON");
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

/** Cuts a body into lines, without empty ones. Memory is bounded by the longest line allowed. */
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
    // Destroying an unfinished request would cut the connection before the error is sent.
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
    // Those of ConnectErrors are numbers.
    if (String(code).startsWith("Z_"))
      throw invalidArgument(undefined, `The body is not valid gzip: ${message}`, "INVALID_REQUEST");
    throw code === "ECONNRESET" || code === "ERR_STREAM_PREMATURE_CLOSE" ? cancelled(error) : error;
  } finally {
    if (body !== request.raw) body.destroy();
  }
  // A client that gives up over HTTP/2 may end its stream first, and the end is all that is seen until the next turn.
  await setImmediate();
  if (request.raw.aborted) throw cancelled();
  const line = take(Buffer.alloc(0));
  if (line !== undefined) yield line;
}

function isBlank(line: Buffer): boolean {
  return line.length === 0 || (line.length === 1 && line[0] === 13);
}
