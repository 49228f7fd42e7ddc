import { once } from "node:events";
import { request as requestHttp, type ClientRequest, type IncomingMessage } from "node:http";
import { connect as connectHttp2, constants } from "node:http2";
import { join } from "node:path";
import { json } from "node:stream/consumers";
import { setTimeout as delay } from "node:timers/promises";
import { credentials, loadPackageDefinition, status } from "@grpc/grpc-js";
import type { Client, ClientReadableStream, ClientWritableStream, ServiceError } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { afterAll, afterEach, expect, onTestFinished, test, vi } from "vitest";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import { FORM_TYPE, filePart, form, textPart } from "../../support/clients/form.ts";
import { noise } from "../../support/stores/noise.ts";
import { startServer } from "../../support/servers/server.ts";

const FILE_BYTES_MAX = 10 * 1024 * 1024;
const server = await startServer({ files: { bytesMax: FILE_BYTES_MAX }, ingest: { idleMs: 5_000 } });
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());
afterEach(() => pool.query("truncate pgquiver_files, pgquiver_file_parts"));

interface File {
  id: string;
  bytes: number;
  filename: string;
}

/** The service as grpc-js makes it of the proto files. */
interface FileClient extends Client {
  UploadFile(done: (error: ServiceError | null, file: File) => void): ClientWritableStream<object>;
  GetFileContent(request: object): ClientReadableStream<{ data: Buffer; file: File | null }>;
}

const root = join(import.meta.dirname, "../../..");
const packages = loadPackageDefinition(
  loadSync("pgquiver/v1/files.proto", {
    includeDirs: [join(root, "proto"), join(root, "node_modules/protobufjs")],
    keepCase: true,
    longs: Number,
    defaults: true,
  }),
) as unknown as { pgquiver: { v1: { FileService: new (address: string, with_: object) => FileClient } } };

function connect(): FileClient {
  const client = new packages.pgquiver.v1.FileService(server.address, credentials.createInsecure());
  onTestFinished(() => client.close());
  return client;
}

/** Begins an upload; `sent` resolves with the file, or rejects. */
function openUpload(client: FileClient) {
  const answer = Promise.withResolvers<File>();
  answer.promise.catch(() => {});
  const call = client.UploadFile((error, file) =>
    error === null ? answer.resolve(file) : answer.reject(error),
  );
  call.on("error", () => {});
  const send = async (message: object) => {
    if (!call.write(message)) await Promise.race([once(call, "drain"), answer.promise]);
  };
  return { call, send, file: answer.promise };
}

/** Uploads of each size that are given up; more find more. */
const GIVEN_UP = Number(process.env["TRIALS"] ?? 10);

const metadata = { filename: "a.bin", purpose: "assistants" };

async function countRows() {
  const { rows } = await pool.query(
    "select (select count(*)::int from pgquiver_files) as files, (select count(*)::int from pgquiver_file_parts) as parts",
  );
  return rows[0] as { files: number; parts: number };
}

async function expectNothing() {
  await vi.waitFor(async () => expect(await countRows()).toEqual({ files: 0, parts: 0 }), 60_000);
}

/** Waits until parts of an unfinished upload are stored. */
async function untilBegun() {
  await vi.waitFor(async () => expect((await countRows()).parts).toBeGreaterThan(0), 60_000);
}

test("a file goes in and comes out over gRPC, in messages of other sizes", async () => {
  const client = connect();
  const piece = noise(1_000_003);
  const pieces = 9;
  const { call, send, file } = openUpload(client);
  await send({ metadata: { ...metadata, bytes: pieces * piece.length } });
  for (let index = 0; index < pieces; index++) await send({ data: piece });
  call.end();
  const { id, bytes } = await file;
  expect(bytes).toBe(pieces * piece.length);
  let position = 0;
  let first = true;
  for await (const message of client.GetFileContent({ file_id: id })) {
    const { data, file: described } = message as { data: Buffer; file: File | null };
    if (first) expect(described).toMatchObject({ id, bytes, filename: "a.bin" });
    else expect(described ?? null).toBeNull();
    first = false;
    expect(data.length).toBeLessThanOrEqual(64 * 1024);
    for (let at = 0; at < data.length;) {
      const offset = (position + at) % piece.length;
      const length = Math.min(data.length - at, piece.length - offset);
      if (piece.compare(data, at, at + length, offset, offset + length) !== 0)
        throw new Error(`other bytes at ${position + at}`);
      at += length;
    }
    position += data.length;
  }
  expect(position).toBe(bytes);
});

test("a part of a file comes over gRPC", async () => {
  const client = connect();
  const bytes = noise(600_000);
  const { call, send, file } = openUpload(client);
  await send({ metadata });
  await send({ data: bytes });
  call.end();
  const { id } = await file;
  const read = async (request: object) => {
    const data: Buffer[] = [];
    for await (const message of client.GetFileContent({ file_id: id, ...request }))
      data.push((message as { data: Buffer }).data);
    return Buffer.concat(data);
  };
  expect((await read({ offset: 5, length: 300_000 })).equals(bytes.subarray(5, 300_005))).toBe(true);
  expect((await read({ offset: -7 })).equals(bytes.subarray(-7))).toBe(true);
  expect((await read({ length: 3 })).equals(bytes.subarray(0, 3))).toBe(true);
  await expect(read({ offset: 600_000 })).rejects.toMatchObject({ code: status.OUT_OF_RANGE });
  await expect(read({ length: 0 })).rejects.toMatchObject({ code: status.INVALID_ARGUMENT });
});

test.each<[string, object[], number, RegExp]>([
  ["nothing", [], status.INVALID_ARGUMENT, /'metadata'/],
  ["no metadata", [{ data: Buffer.from("x") }], status.INVALID_ARGUMENT, /'metadata'/],
  ["an empty message", [{ metadata }, {}], status.INVALID_ARGUMENT, /'data'/],
  ["metadata twice", [{ metadata }, { metadata }], status.INVALID_ARGUMENT, /more than once/],
  ["no name", [{ metadata: { purpose: "batch" } }], status.INVALID_ARGUMENT, /'filename'/],
  ["no purpose", [{ metadata: { filename: "a" } }], status.INVALID_ARGUMENT, /'purpose'/],
  [
    "no anchor of its expiry",
    [{ metadata: { ...metadata, expires_after: { seconds: 3600 } } }],
    status.INVALID_ARGUMENT,
    /'expires_after.anchor'/,
  ],
  [
    "an unknown anchor of its expiry",
    [{ metadata: { ...metadata, expires_after: { anchor: 99, seconds: 3600 } } }],
    status.INVALID_ARGUMENT,
    /Supported values are: 'created_at'/,
  ],
  [
    "a negative length",
    [{ metadata: { ...metadata, bytes: -1 } }],
    status.INVALID_ARGUMENT,
    /'bytes': integer below minimum value/,
  ],
  [
    "fewer bytes than announced",
    [{ metadata: { ...metadata, bytes: 2 } }, { data: Buffer.from("x") }],
    status.INVALID_ARGUMENT,
    /announced with 2 bytes, but 1 were received/,
  ],
  ["bytes first", [{ data: Buffer.alloc(100_000) }, { metadata }], status.INVALID_ARGUMENT, /'metadata'/],
  [
    "too many bytes",
    [{ metadata }, ...Array.from({ length: 6 }, () => ({ data: Buffer.alloc(FILE_BYTES_MAX / 5) }))],
    status.RESOURCE_EXHAUSTED,
    /too large/,
  ],
])("an upload with %s is refused and leaves nothing", async (_, messages, code, message) => {
  const { call, send, file } = openUpload(connect());
  for (const part of messages) await send(part).catch(() => {});
  call.end();
  await expect(file).rejects.toMatchObject({ code, details: expect.stringMatching(message) });
  await expectNothing();
});

test("a file of no bytes and one of a few go in over gRPC", async () => {
  for (const text of ["", "x"]) {
    const { call, send, file } = openUpload(connect());
    await send({ metadata });
    if (text !== "") await send({ data: Buffer.from(text) });
    call.end();
    expect(await file).toMatchObject({ bytes: text.length });
  }
  expect(await countRows()).toEqual({ files: 2, parts: 1 });
});

test("uploads that a client gives up over gRPC leave nothing, large or small", async () => {
  const client = connect();
  for (const bytes of [0, 10, 1_000_000]) {
    for (let trial = 0; trial < GIVEN_UP; trial++) {
      const { call, send, file } = openUpload(client);
      await send({ metadata: { ...metadata, bytes: bytes + 1 } });
      if (bytes > 0) await send({ data: noise(bytes) });
      if (bytes > 100_000) await untilBegun();
      // At another moment each time: the service must not take the end of what came for the end of the file.
      await delay(trial % 8);
      call.cancel();
      await expect(file).rejects.toMatchObject({ code: status.CANCELLED });
    }
    await expectNothing();
  }
});

test("downloads end over gRPC-Web and Connect too, and uploads over Connect on HTTP/2", async () => {
  const connectRpc = createClient(
    FileService,
    createConnectTransport({ baseUrl: server.url, httpVersion: "2" }),
  );
  const bytes = noise(400_000);
  const { id } = await connectRpc.uploadFile(
    (async function* () {
      yield { part: { case: "metadata" as const, value: metadata } };
      yield { part: { case: "data" as const, value: bytes } };
    })(),
  );
  const transport = createGrpcWebTransport({ baseUrl: server.url, httpVersion: "1.1" });
  for (const client of [connectRpc, createClient(FileService, transport)]) {
    const data: Uint8Array[] = [];
    for await (const message of client.getFileContent({ fileId: id })) data.push(message.data);
    expect(Buffer.concat(data).equals(bytes)).toBe(true);
  }
});

const begun = form(filePart(noise(1_000_000))).subarray(0, -40);

test("uploads that a client gives up over HTTP/1.1 leave nothing", async () => {
  for (const part of [begun.subarray(0, 500), begun]) {
    for (let trial = 0; trial < 5; trial++) {
      const call = post();
      call.on("error", () => {});
      call.write(part);
      if (part === begun) await untilBegun();
      else await once(call.socket ?? (await once(call, "socket"))[0], "connect").catch(() => {});
      call.destroy();
    }
    await expectNothing();
  }
});

test("uploads that a client gives up over HTTP/2 leave nothing", async () => {
  const session = connectHttp2(server.url);
  onTestFinished(() => session.destroy());
  const head = { ":method": "POST", ":path": "/v1/files", ...FORM_TYPE };
  for (let trial = 0; trial < 5; trial++) {
    const stream = session.request(head);
    stream.on("error", () => {});
    stream.write(begun);
    await untilBegun();
    stream.close(constants.NGHTTP2_CANCEL);
    await expectNothing();
  }
});

test("a client that falls silent is refused, and leaves nothing", async () => {
  const { send, file } = openUpload(connect());
  await send({ metadata });
  await send({ data: noise(1_000_000) });
  await expect(file).rejects.toMatchObject({ code: status.DEADLINE_EXCEEDED });
  const call = post();
  call.write(begun);
  const [reply] = (await once(call, "response")) as [IncomingMessage];
  expect(reply.statusCode).toBe(504);
  expect(await json(reply)).toMatchObject({ error: { code: "deadline_exceeded" } });
  await expectNothing();
});

test("more uploads than there is room for wait for each other", async () => {
  const whole = form(filePart(noise(300_000)), textPart("purpose", "assistants"));
  const replies = await Promise.all(
    Array.from({ length: 100 }, () =>
      fetch(`${server.url}/v1/files`, { method: "POST", headers: FORM_TYPE, body: whole }),
    ),
  );
  expect(new Set(replies.map((reply) => reply.status))).toEqual(new Set([200]));
  expect(await countRows()).toEqual({ files: 100, parts: 200 });
});

function post(): ClientRequest {
  return requestHttp(`${server.url}/v1/files`, { method: "POST", headers: FORM_TYPE, agent: false });
}
