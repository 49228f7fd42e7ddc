import { once } from "node:events";
import { connect } from "node:http2";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { type Json } from "../../support/clients/client.ts";
import { grpcByGrpcJs } from "../../support/clients/grpc-client.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer({ requestBytesMax: 1024 * 1024 });
const { pool } = server.database;
const { call, callBytes, ...client } = grpcByGrpcJs.connect(server);
afterAll(async () => {
  await client[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});

await call("VectorStoreService/CreateVectorStore", { id: "s" });
await call("EmbeddingService/CreateEmbedding", {
  vector_store_id: "s",
  id: "e",
  content: "a text",
  embedding: [1, 2],
});
const content = async () => [
  (await pool.query("select * from vector_stores")).rows,
  (await pool.query("select * from embeddings")).rows,
];
let before: unknown;
beforeEach(async () => void (before = await content()));
// What is refused leaves no trace, and the connection can be used.
afterEach(async () => {
  expect(await content()).toEqual(before);
  expect((await call("VectorStoreService/GetVectorStore", { vector_store_id: "s" })).id).toBe("s");
});

const create = "EmbeddingService/CreateEmbedding";
const search = "SearchService/Search";

test.each<[string, Json, string]>([
  [create, { content: "a", embedding: [1, NaN] }, "embedding[1]"],
  [create, { content: "a", embedding: [-Infinity, 1] }, "embedding[0]"],
  [create, { content: "a", embedding: [1, 3.5e38] }, "embedding[1]"],
  [create, { content: "a", embedding: [0, 0] }, "embedding"],
  [create, { content: "a", embedding: [1, 2], metadata: { n: NaN } }, "metadata"],
  [create, { content: "a", embedding: [1, 2], metadata: { n: [{ m: Infinity }] } }, "metadata"],
  [
    "EmbeddingService/BatchCreateEmbeddings",
    { embeddings: [{ content: "a", embedding: [1, NaN] }] },
    "embeddings[0].embedding[1]",
  ],
  [search, { embedding: [NaN, 1] }, "embedding[0]"],
  [search, { query: "a", filters: { type: "eq", key: "k", value: NaN } }, "filters.value"],
  [search, { query: "a", filters: { type: "gt", key: "k", value: -Infinity } }, "filters.value"],
  [search, { query: "a", filters: { type: "in", key: "k", value: [1, Infinity] } }, "filters.value[1]"],
  [search, { query: "a", ranking_options: { score_threshold: NaN } }, "ranking_options.score_threshold"],
  ["EmbeddingService/PurgeEmbeddings", { filters: { type: "ne", key: "k", value: NaN } }, "filters.value"],
])("a number that is none is refused by %s %o", async (rpc, request, param) => {
  await expect(call(rpc, { vector_store_id: "s", ...request })).rejects.toMatchObject({
    code: "invalid_argument",
    param,
  });
});

// The trailers of an error name the id. Node ends a connection whose headers are longer than 64 KiB, and clients of
// gRPC take 8 KiB.
test.each([
  ["ASCII", "x"],
  ["that each take nine characters in a header", "\u4e16"],
  ["that are no characters", "\ud800"],
])("an id of 70,000 characters %s is not found, in short", async (_, character) => {
  const session = connect(server.url);
  const send = async (id: string) => {
    const stream = session.request({
      ":method": "POST",
      ":path": "/pgquiver.v1.VectorStoreService/GetVectorStore",
      "content-type": "application/grpc",
      te: "trailers",
    });
    const message = field(1, Buffer.from(id));
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(message.length, 1);
    stream.resume().end(Buffer.concat([prefix, message]));
    let head: Record<string, unknown> = {};
    for (const name of ["response", "trailers"])
      stream.on(name, (received: object) => (head = { ...head, ...received }));
    await once(stream, "close");
    return head;
  };
  const [refused, other] = await Promise.all([send(character.repeat(70_000)), send("s")]);
  expect(refused["grpc-status"]).toBe("5");
  expect(decodeURIComponent(String(refused["grpc-message"]))).toMatch(
    /^No vector store found with id '.*…$/u,
  );
  expect(JSON.stringify(refused).length).toBeLessThan(8_192);
  expect(other["grpc-status"]).toBe("0");
  expect((await send("s"))["grpc-status"]).toBe("0");
  session.close();
});

test.each<[string, Json, string]>([
  [search, { query: "a", filters: { type: 99, key: "k", value: 1 } }, "filters.type"],
  [search, { query: "a", filters: { type: 0, key: "k", value: 1 } }, "filters.type"],
  ["EmbeddingService/ListEmbeddings", { order: 99 }, "order"],
  ["VectorStoreService/ListVectorStores", { order: 99 }, "order"],
])("an enum's unknown number is refused by %s %o", async (rpc, request, param) => {
  await expect(call(rpc, { vector_store_id: "s", ...request })).rejects.toMatchObject({
    code: "invalid_argument",
    param,
  });
});

/** A length-delimited field: its tag, its length, its bytes. */
function field(number: number, bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from([(number << 3) | 2]), varint(bytes.length), bytes]);
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (; value > 0x7f; value >>>= 7) bytes.push((value & 0x7f) | 0x80);
  return Buffer.from([...bytes, value]);
}

function nest(depth: number, wrap: (inner: Buffer) => Buffer): Buffer {
  let bytes: Buffer = Buffer.alloc(0);
  for (let level = 0; level < depth; level++) bytes = wrap(bytes);
  return bytes;
}

const storeId = field(1, Buffer.from("s"));

describe("a message", () => {
  const unreadable = { code: "invalid_argument", message: expect.stringMatching(/^parse binary: /) };

  test.each([
    ["of noise", Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff])],
    ["with a field cut short", Buffer.from([0x0a, 0x7f, 0x61])],
    ["with a field of another wire type", Buffer.from([0x08, 0x01])],
    ["with an endless number", Buffer.from([0x20, ...Array<number>(20).fill(0xff)])],
    ["with text that is not UTF-8", field(1, Buffer.from([0xc3, 0x28]))],
    ["with a vector of 7 bytes", Buffer.concat([storeId, field(3, Buffer.alloc(7, 1))])],
    ["that closes a group it never opened", Buffer.from([0x0c])],
  ])("%s is refused", async (_, bytes) => {
    await expect(callBytes(search, bytes)).rejects.toMatchObject(unreadable);
  });

  test.each([
    [17, { code: "invalid_argument", param: "filters" }],
    [10_000, unreadable],
  ])("with a filter %i deep is refused", async (depth, refused) => {
    const filter = nest(depth, (inner) => Buffer.concat([Buffer.from([0x08, 9]), field(4, inner)]));
    const bytes = Buffer.concat([storeId, field(2, Buffer.from("a")), field(5, filter)]);
    await expect(callBytes(search, bytes)).rejects.toMatchObject(refused);
    const purge = Buffer.concat([storeId, field(2, filter)]);
    await expect(callBytes("EmbeddingService/PurgeEmbeddings", purge)).rejects.toMatchObject(refused);
  });

  test.each([
    [33, { code: "invalid_argument", param: "metadata" }],
    [10_000, unreadable],
  ])("with metadata %i deep is refused", async (depth, refused) => {
    // Struct.fields["a"] = Value.struct_value = Struct ...
    const metadata = nest(depth, (inner) =>
      field(1, Buffer.concat([field(1, Buffer.from("a")), field(2, field(5, inner))])),
    );
    const embedding = Buffer.concat([
      field(2, Buffer.from("a")),
      field(3, Buffer.alloc(8, 1)),
      field(4, metadata),
    ]);
    const bytes = Buffer.concat([storeId, field(2, embedding)]);
    await expect(callBytes(create, bytes)).rejects.toMatchObject(refused);
  });

  test("larger than the limit is refused", async () => {
    const content = "a".repeat(2 * 1024 * 1024);
    await expect(call(create, { vector_store_id: "s", content, embedding: [1, 2] })).rejects.toMatchObject({
      code: "resource_exhausted",
    });
  });
});

describe("a frame", () => {
  /** Sends bytes as the body of a gRPC call; the status and the message that came back. */
  async function exchange(body: Buffer, headers: Record<string, string> = {}) {
    const session = connect(server.url);
    const stream = session.request({
      ":method": "POST",
      ":path": "/pgquiver.v1.VectorStoreService/DeleteVectorStore",
      "content-type": "application/grpc",
      te: "trailers",
      ...headers,
    });
    let head: Record<string, unknown> = {};
    stream.on("response", (received) => (head = { ...head, ...received }));
    stream.on("trailers", (received) => (head = { ...head, ...received }));
    stream.resume().end(body);
    await once(stream, "close");
    session.close();
    return {
      http: head[":status"],
      status: Number(head["grpc-status"]),
      message: String(head["grpc-message"]),
    };
  }

  function frame(flags: number, length: number, message: Buffer): Buffer {
    const prefix = Buffer.alloc(5);
    prefix.writeUInt8(flags);
    prefix.writeUInt32BE(length, 1);
    return Buffer.concat([prefix, message]);
  }

  const good = frame(0, storeId.length, storeId);
  const INVALID_ARGUMENT = 3;
  const RESOURCE_EXHAUSTED = 8;
  const UNIMPLEMENTED = 12;

  test.each([
    ["longer than what follows", frame(0, 100, storeId), INVALID_ARGUMENT],
    ["shorter than what follows", frame(0, 1, storeId), INVALID_ARGUMENT],
    ["of 4 GiB", frame(0, 0xffff_ffff, storeId), RESOURCE_EXHAUSTED],
    ["of 2 MiB without a byte of it", frame(0, 2 * 1024 * 1024, Buffer.alloc(0)), RESOURCE_EXHAUSTED],
    ["cut short", Buffer.from([0, 0, 0]), INVALID_ARGUMENT],
  ])("with a length %s is refused", async (_, body, status) => {
    expect(await exchange(body)).toMatchObject({ http: 200, status, message: expect.stringMatching(/\w/) });
  });

  test("that says it is compressed and is not is refused", async () => {
    expect((await exchange(frame(1, storeId.length, storeId))).status).toBeGreaterThan(0);
    const gzip = await exchange(frame(1, storeId.length, storeId), { "grpc-encoding": "gzip" });
    expect(gzip.status).toBe(INVALID_ARGUMENT);
    expect((await exchange(good, { "grpc-encoding": "lzma" })).status).toBe(UNIMPLEMENTED);
  });

  test("too many or too few is refused", async () => {
    expect((await exchange(Buffer.concat([good, good]))).status).toBe(UNIMPLEMENTED);
    expect((await exchange(Buffer.alloc(0))).status).toBe(UNIMPLEMENTED);
  });

  test("of 64 MiB once unpacked is refused", async () => {
    const { gzipSync } = await import("node:zlib");
    const packed = gzipSync(Buffer.alloc(64 * 1024 * 1024));
    const answer = await exchange(frame(1, packed.length, packed), { "grpc-encoding": "gzip" });
    expect(answer.status).toBe(RESOURCE_EXHAUSTED);
  });

  test("with a deadline that is none is refused", async () => {
    expect((await exchange(good, { "grpc-timeout": "soon" })).status).toBe(INVALID_ARGUMENT);
  });
});

test("an unknown method is unimplemented", async () => {
  const session = connect(server.url);
  for (const path of ["/pgquiver.v1.SearchService/Nope", "/pgquiver.v2.SearchService/Search", "/x"]) {
    const stream = session.request({
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
    });
    stream.resume().end();
    const [head] = (await once(stream, "response")) as [Record<string, unknown>];
    await once(stream, "close");
    // The gRPC specification reads HTTP 404 as UNIMPLEMENTED.
    expect(head["grpc-status"] === "12" || head[":status"] === 404).toBe(true);
  }
  session.close();
});
