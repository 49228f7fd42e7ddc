import { connect, type ClientHttp2Session } from "node:http2";
import { gzipSync } from "node:zlib";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import { SearchRequestSchema } from "../../../gen/pgquiver/v1/search_pb.ts";
import {
  CreateVectorStoreRequestSchema,
  GetVectorStoreRequestSchema,
  VectorStoreSchema,
} from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { openGrpcStream } from "../../support/clients/grpc-stream.ts";
import { embedderAt } from "../../support/servers/embedder.ts";
import { startEmbeddingServer } from "../../support/servers/embedding-server.ts";
import { startServer } from "../../support/servers/server.ts";

const provider = await startEmbeddingServer();
const requestBytesMax = 1024 * 1024;
const server = await startServer({ embedder: embedderAt(provider.url), requestBytesMax });
const session = connect(server.url);
afterAll(async () => {
  session.destroy();
  await server[Symbol.asyncDispose]();
  await provider[Symbol.asyncDispose]();
});

function frame(message: Uint8Array, flags = 0, length = message.length): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt8(flags);
  prefix.writeUInt32BE(length, 1);
  return Buffer.concat([prefix, message]);
}

const begin = (rpc: string, headers?: Record<string, string>, on: ClientHttp2Session = session) =>
  openGrpcStream(on, rpc, headers);

const exchange = (rpc: string, body: Buffer, headers?: Record<string, string>) => {
  const { stream, answer } = begin(rpc, headers);
  stream.end(body);
  return answer;
};

const createStore = "VectorStoreService/CreateVectorStore";
const getStore = "VectorStoreService/GetVectorStore";
const made = toBinary(CreateVectorStoreRequestSchema, create(CreateVectorStoreRequestSchema, { id: "s" }));
const found = toBinary(
  GetVectorStoreRequestSchema,
  create(GetVectorStoreRequestSchema, { vectorStoreId: "s" }),
);
await exchange(createStore, frame(made));

const OK = "0";
const DEADLINE_EXCEEDED = "4";
const NOT_FOUND = "5";
const RESOURCE_EXHAUSTED = "8";

test.each([
  ["as gRPC names it", {}],
  ["with its codec", { "content-type": "application/grpc+proto" }],
  ["in capitals", { "content-type": "Application/GRPC" }],
  ["with an encoding that changes nothing", { "grpc-encoding": "identity" }],
  ["with a deadline that a timer cannot hold", { "grpc-timeout": "99999999H" }],
])("a request %s is answered", async (_, headers: Record<string, string>) => {
  const { head, trailers, body } = await exchange(getStore, frame(found), headers);
  expect(head).toMatchObject({ ":status": 200, "content-type": "application/grpc+proto" });
  expect(trailers).toMatchObject({ "grpc-status": OK });
  expect(body.readUInt32BE(1)).toBe(body.length - 5);
  expect(fromBinary(VectorStoreSchema, body.subarray(5)).id).toBe("s");
});

test("a request in pieces, cut anywhere, is the same request", async () => {
  const bytes = frame(found);
  for (let cut = 1; cut < bytes.length; cut++) {
    const { stream, answer } = begin(getStore);
    stream.write(bytes.subarray(0, cut));
    await new Promise((resolve) => setImmediate(resolve));
    stream.end(bytes.subarray(cut));
    expect((await answer).trailers).toMatchObject({ "grpc-status": OK });
  }
});

test("a compressed request is answered alike", async () => {
  const { trailers, body } = await exchange(getStore, frame(gzipSync(found), 1), { "grpc-encoding": "gzip" });
  expect(trailers).toMatchObject({ "grpc-status": OK });
  expect(fromBinary(VectorStoreSchema, body.subarray(5)).id).toBe("s");
});

test("a refusal is headers only, with the id of the request", async () => {
  const id = { "x-request-id": "req-1" };
  const none = toBinary(
    GetVectorStoreRequestSchema,
    create(GetVectorStoreRequestSchema, { vectorStoreId: "ü%" }),
  );
  const { head, trailers, body } = await exchange(getStore, frame(none), id);
  expect(head).toMatchObject({
    ":status": 200,
    "grpc-status": NOT_FOUND,
    "grpc-message": "No vector store found with id '%C3%BC%25'.",
    "grpc-status-details-bin": expect.stringMatching(/^[\w+/]+$/),
    "x-request-id": "req-1",
  });
  expect(trailers).toBeUndefined();
  expect(body).toHaveLength(0);
});

test("a message that is too large is refused before it is sent, and its stream is ended", async () => {
  for (let upload = 0; upload < 20; upload++) {
    const { stream, answer } = begin(createStore);
    stream.write(frame(Buffer.alloc(1000), 0, requestBytesMax + 1));
    const { head } = await answer;
    expect(head["grpc-status"]).toBe(RESOURCE_EXHAUSTED);
    expect(head["grpc-message"]).toBe(
      `The request has ${requestBytesMax + 1} bytes; ${requestBytesMax} are allowed.`,
    );
  }
});

test("a deadline that passes while the message arrives ends the call", async () => {
  const { stream, answer } = begin(getStore, { "grpc-timeout": "50m" });
  stream.write(frame(found).subarray(0, 7));
  const { head } = await answer;
  expect(head["grpc-status"]).toBe(DEADLINE_EXCEEDED);
});

test("calls under way are answered while the service ends", async () => {
  await using ending = await startServer({ embedder: embedderAt(provider.url) });
  const other = connect(ending.url);
  const inTime = begin(createStore, {}, other);
  inTime.stream.end(frame(made));
  await inTime.answer;
  const row = toBinary(
    SearchRequestSchema,
    create(SearchRequestSchema, { vectorStoreId: "s", query: ["late"] }),
  );
  await ending.database.pool.query(
    `update vector_stores set file_counts = jsonb_set(file_counts, '{total}', '1'), embedding_count = 1`,
  );
  const asked = provider.requests.length;
  provider.next({ delayMs: 300 });
  const { stream, answer } = begin("SearchService/Search", {}, other);
  stream.end(frame(row));
  await provider.received(asked + 1);
  const stopped = ending.stop(10_000);
  expect((await answer).trailers).toMatchObject({ "grpc-status": OK });
  await stopped;
  expect(other.destroyed || other.closed).toBe(true);
});
