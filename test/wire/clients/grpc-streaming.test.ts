import { once } from "node:events";
import { connect } from "node:http2";
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { afterAll, beforeEach, expect, test } from "vitest";
import {
  IngestEventSchema,
  IngestRequestSchema,
  IngestSummarySchema,
} from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { openGrpcStream } from "../../support/clients/grpc-stream.ts";
import { createStore, expectNoLeak, readIds } from "../../support/stores/ingest-store.ts";
import { startServer } from "../../support/servers/server.ts";

const requestBytesMax = 1024 * 1024;
const server = await startServer({ requestBytesMax });
const session = connect(server.url);
afterAll(async () => {
  session.destroy();
  await server[Symbol.asyncDispose]();
});

let vectorStoreId: string;
beforeEach(async () => {
  vectorStoreId = await createStore(server);
});

type Message = Exclude<MessageInitShape<typeof IngestRequestSchema>["message"], undefined>;

function frame(message: Message, flags = 0): Buffer {
  const body = toBinary(IngestRequestSchema, create(IngestRequestSchema, { message }));
  return Buffer.concat([prefix(body.length, flags), body]);
}

function prefix(length: number, flags = 0): Buffer {
  const bytes = Buffer.alloc(5);
  bytes.writeUInt8(flags);
  bytes.writeUInt32BE(length, 1);
  return bytes;
}

const opening = () => frame({ case: "open", value: { vectorStoreId } });
const batch = (seq: number, content = "text") =>
  frame({ case: "batch", value: { seq: BigInt(seq), rows: [{ id: `r${seq}`, content, embedding: [1] }] } });
const finish = (rows: number) => frame({ case: "finish", value: { rows: BigInt(rows) } });

const begin = (rpc: "Ingest" | "IngestSession", headers?: Record<string, string>) =>
  openGrpcStream(session, `IngestService/${rpc}`, headers);

/** Cuts the length-delimited messages of a body apart. */
function* messagesOf(body: Buffer): Generator<Buffer> {
  for (let start = 0; start < body.length;) {
    const end = start + 5 + body.readUInt32BE(start + 1);
    yield body.subarray(start + 5, end);
    start = end;
  }
}

const INVALID_ARGUMENT = "3";
const DEADLINE_EXCEEDED = "4";
const RESOURCE_EXHAUSTED = "8";

test.each([1, 3, 7, 1_000_000])("a stream in pieces of %i bytes is the same stream", async (size) => {
  const { stream, answer } = begin("Ingest");
  const bytes = Buffer.concat([opening(), batch(1), batch(2, "x".repeat(500)), finish(2)]);
  for (let start = 0; start < bytes.length; start += size) {
    stream.write(bytes.subarray(start, start + size));
    await new Promise((resolve) => setImmediate(resolve));
  }
  stream.end();
  const { head, trailers, body } = await answer;
  expect(head).toMatchObject({ ":status": 200, "content-type": "application/grpc+proto" });
  expect(trailers).toMatchObject({ "grpc-status": "0" });
  const [summary] = [...messagesOf(body)].map((bytes) => fromBinary(IngestSummarySchema, bytes));
  expect(summary).toMatchObject({ rowsWritten: 2n, throughSeq: 2n });
});

test("a session answers while the client sends, and an error comes in the trailers", async () => {
  const { stream, answer } = begin("IngestSession", { "x-request-id": "req-1" });
  stream.write(Buffer.concat([opening(), batch(1)]));
  await once(stream, "data");
  stream.write(batch(3));
  const { head, trailers, body } = await answer;
  expect(head).toMatchObject({ ":status": 200, "x-request-id": "req-1" });
  expect(trailers).toMatchObject({
    "grpc-status": INVALID_ARGUMENT,
    "grpc-message": expect.stringContaining("expected 2, but got 3"),
    "grpc-status-details-bin": expect.stringMatching(/^[\w+/]+$/),
  });
  const events = [...messagesOf(body)].map((bytes) => fromBinary(IngestEventSchema, bytes).event.case);
  expect(events).toEqual(["opened", "committed"]);
  expect(await readIds(server, vectorStoreId)).toEqual(["r1"]);
});

test.each([
  ["is too large", RESOURCE_EXHAUSTED, () => [opening(), prefix(requestBytesMax + 1), Buffer.alloc(100)]],
  ["opens the stream with too many bytes", INVALID_ARGUMENT, () => [prefix(65 * 1024), Buffer.alloc(100)]],
  [
    "says that it is compressed",
    INVALID_ARGUMENT,
    () => [opening(), frame({ case: "finish", value: {} }, 1)],
  ],
  ["is malformed", INVALID_ARGUMENT, () => [opening(), prefix(3), Buffer.from([0x0f, 0x0f, 0x0f])]],
])("a message that %s ends the stream, while the client goes on", async (_, status, pieces) => {
  const { stream, answer } = begin("Ingest");
  stream.on("error", () => {});
  for (const piece of pieces()) stream.write(piece);
  expect((await answer).head).toMatchObject({ ":status": 200, "grpc-status": status });
  await expectNoLeak(server);
});

test("a stream that ends within a message is refused", async () => {
  const { stream, answer } = begin("Ingest");
  stream.end(Buffer.concat([opening(), prefix(10), Buffer.alloc(4)]));
  expect((await answer).head).toMatchObject({
    "grpc-status": INVALID_ARGUMENT,
    "grpc-message": "The message is shorter than its length prefix.",
  });
});

test("a stream ends at its deadline, with what was acknowledged", async () => {
  const { stream, answer } = begin("IngestSession", { "grpc-timeout": "2S" });
  stream.write(Buffer.concat([opening(), batch(1)]));
  const { head, trailers } = await answer;
  expect({ ...head, ...trailers }).toMatchObject({ "grpc-status": DEADLINE_EXCEEDED });
  await expectNoLeak(server);
});
