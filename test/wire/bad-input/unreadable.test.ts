import { once } from "node:events";
import { connect, type IncomingHttpHeaders } from "node:http2";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { send } from "../../support/clients/http.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

const SEARCH = "/pgquiver.v1.SearchService/Search";

function hex(bytes: string): Buffer<ArrayBuffer> {
  return Buffer.from(bytes, "hex");
}

function frame(message: Buffer, flags = 0): Buffer<ArrayBuffer> {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt8(flags);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** Sends a message and returns how it was answered: gRPC's status where there is one, and HTTP's. */
type Send = (message: Buffer<ArrayBuffer>, path?: string) => Promise<{ code: string; http: number }>;

const connectBinary =
  (headers: Record<string, string> = {}): Send =>
  async (message, path = SEARCH) => {
    const type = { "content-type": "application/proto", ...headers };
    const { status, text } = await send(server.url + path, "POST", message, type);
    return { code: (JSON.parse(text) as { code: string }).code, http: status };
  };

const grpcWeb: Send = async (message, path = SEARCH) => {
  const type = { "content-type": "application/grpc-web+proto" };
  const { status, headers, text } = await send(server.url + path, "POST", frame(message), type);
  return { code: headers.get("grpc-status") ?? /grpc-status: (\d+)/.exec(text)?.[1] ?? "", http: status };
};

const grpc =
  (flags: number, headers: Record<string, string> = {}): Send =>
  async (message, path = SEARCH) => {
    const session = connect(server.url);
    onTestFinished(() => session.destroy());
    const fields = { ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" };
    const stream = session.request({ ...fields, ...headers });
    let answered: IncomingHttpHeaders = {};
    stream.on("response", (head) => (answered = { ...answered, ...head }));
    stream.on("trailers", (trailers) => (answered = { ...answered, ...trailers }));
    stream.resume().end(frame(message, flags));
    await once(stream, "close");
    return { code: String(answered["grpc-status"]), http: Number(answered[":status"]) };
  };

const gzipped =
  (sent: Send): Send =>
  (message, path) =>
    sent(gzipSync(message), path);

const CONNECT = { code: "invalid_argument", http: 400 };
const GRPC = { code: "3", http: 200 };

const protocols: [string, Send, typeof CONNECT][] = [
  ["Connect", connectBinary(), CONNECT],
  ["Connect in gzip", gzipped(connectBinary({ "content-encoding": "gzip" })), CONNECT],
  ["gRPC-Web", grpcWeb, GRPC],
  ["gRPC", grpc(0), GRPC],
  ["gRPC in gzip", gzipped(grpc(1, { "grpc-encoding": "gzip" })), GRPC],
];

/** A filter within `levels` others. */
function nested(levels: number): Buffer<ArrayBuffer> {
  let filter = hex("");
  for (let level = 0; level < levels; level++) filter = field(4, filter);
  return field(5, filter);
}

function field(number: number, bytes: Buffer): Buffer<ArrayBuffer> {
  const length: number[] = [];
  let rest = bytes.length;
  for (; rest > 0x7f; rest >>>= 7) length.push((rest & 0x7f) | 0x80);
  return Buffer.concat([Buffer.from([(number << 3) | 2, ...length, rest]), bytes]);
}

describe.each(protocols)("over %s a request is the client's fault", (_, sent, expected) => {
  test.each([
    ["with bytes that are no protobuf", hex("ffffffffff")],
    ["with a field that is cut short", hex("0a7f61")],
    ["with a field of another wire type", hex("0801")],
    ["with a text that is not UTF-8", hex("0a02c328")],
    ["with a text in a list that is not UTF-8", hex("1202c328")],
    ["with a text that is not UTF-8 in a filter", field(5, hex("1202c328"))],
    ["with a number without an end", hex("20ffffffffffffffffffffff01")],
    ["with field number 0", hex("0001")],
    ["with a tag of 33 bits", hex("f8ffffff1f01")],
    ["with a group", hex("0b0c")],
    ["nested 99 times", nested(99)],
    ["nested 250 times", nested(250)],
  ])("%s", async (_name, message) => {
    expect(await sent(message)).toEqual(expected);
  });
});

test.each<[string, Send, typeof CONNECT]>([
  ["Connect", connectBinary({ "content-encoding": "gzip" }), CONNECT],
  ["gRPC", grpc(1, { "grpc-encoding": "gzip" }), GRPC],
  ["gRPC that does not say how", grpc(1), GRPC],
  [
    "gRPC, a stream that does not say how",
    (message) => grpc(1)(message, "/pgquiver.v1.FileService/UploadFile"),
    GRPC,
  ],
])("so are bytes that are not compressed as they say, over %s", async (_, sent, expected) => {
  expect(await sent(hex("0a0173"))).toEqual(expected);
});

test.each(["FileService/UploadFile", "IngestService/Ingest"])(
  "so is a message of the stream %s that is no protobuf",
  async (rpc) => {
    expect(await grpc(0)(hex("ffffffffff"), `/pgquiver.v1.${rpc}`)).toEqual(GRPC);
    expect(await grpc(0)(hex("0a040a02c328"), `/pgquiver.v1.${rpc}`)).toEqual(GRPC);
  },
);

const halves = String.raw`{"\ud800":1} {"query":["\udc00x"]} {"query":["\ud800\\udc00"]} {"query":["\uD800 \uDC00"]} {"query":["\udc00\ud800"]}`;

test.each(halves.split(/(?<=\}) /))("so is JSON with half of a surrogate pair: %s", async (json) => {
  const message = Buffer.from(json);
  const web = { "content-type": "application/grpc-web+json" };
  const { text } = await send(server.url + SEARCH, "POST", frame(message), web);
  expect(text).toMatch(/grpc-status: 3\r\n/);
  const connected = await send(server.url + SEARCH, "POST", message, { "content-type": "application/json" });
  expect(connected.status).toBe(400);
  expect(JSON.parse(connected.text)).toMatchObject({ code: "invalid_argument" });
});

test("JSON with whole pairs, and with backslashes that are none of an escape, is read", async () => {
  const query = ["🎈 \\ud800 \\\\"];
  const json = JSON.stringify({ vectorStoreId: "none", query }).replaceAll("🎈", "\\ud83c\\uDF88");
  const headers = { "content-type": "application/json" };
  const { text } = await send(server.url + SEARCH, "POST", Buffer.from(json), headers);
  expect(JSON.parse(text)).toMatchObject({ code: "not_found" });
});
