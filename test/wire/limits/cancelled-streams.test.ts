import { randomBytes } from "node:crypto";
import { get } from "node:http";
import { connect as connectHttp2, constants } from "node:http2";
import { once } from "node:events";
import { createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { pino } from "pino";
import { afterAll, beforeEach, describe, expect, inject, onTestFinished, test } from "vitest";
import { FileService } from "../../../gen/pgquiver/v1/files_pb.ts";
import { IngestService } from "../../../gen/pgquiver/v1/ingest_pb.ts";
import { send } from "../../support/clients/http.ts";
import { startServer } from "../../support/servers/server.ts";

/** Lines of the log, as objects. */
let lines: { rpc?: string; level: number; code?: string }[] = [];
beforeEach(() => {
  lines = [];
});
const log = pino({ level: "info" }, { write: (line: string) => void lines.push(JSON.parse(line)) });
const server = await startServer({ log });
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

// More than any window or buffer on the way holds, so that the server is not done when the caller is.
const storeId = "vs_0123456789abcdef0123456789abcdef";
await pool.query("insert into vector_stores (id) values ($1)", [storeId]);
await pool.query(
  `insert into embeddings (vector_store_id, id, content, embedding)
   select $1, 'row ' || n, repeat('content ', 20000), '[1]' from generate_series(1, 200) as n`,
  [storeId],
);
const body = new FormData();
body.set("purpose", "assistants");
body.set("file", new Blob([randomBytes(32 * 1024 * 1024)]), "large.bin");
const uploaded = await fetch(`${server.url}/v1/files`, { method: "POST", body });
const { id: fileId } = (await uploaded.json()) as { id: string };

const streams = [
  {
    rpc: "IngestService/ExportEmbeddings",
    path: `/v1/vector_stores/${storeId}/embeddings/export`,
    open: (transport: Transport, signal: AbortSignal) =>
      createClient(IngestService, transport).exportEmbeddings({ vectorStoreId: storeId }, { signal }),
  },
  {
    rpc: "FileService/GetFileContent",
    path: `/v1/files/${fileId}/content`,
    open: (transport: Transport, signal: AbortSignal) =>
      createClient(FileService, transport).getFileContent({ fileId }, { signal }),
  },
];

const at = { baseUrl: server.url };
const transports = [
  ["grpc", "gRPC", createGrpcTransport(at)],
  ["grpc-web", "gRPC-Web over HTTP/1.1", createGrpcWebTransport({ ...at, httpVersion: "1.1" })],
  ["connect", "Connect over HTTP/1.1", createConnectTransport({ ...at, httpVersion: "1.1" })],
  ["connect", "Connect over HTTP/2", createConnectTransport({ ...at, httpVersion: "2" })],
] as const;

/** How often the RPC has ended so far, by its outcome. */
async function countOutcomes(rpc: string, protocol: string): Promise<Record<string, number>> {
  const { text } = await send(`${server.url}/metrics`, "GET");
  const samples = text.matchAll(
    new RegExp(
      String.raw`^pgquiver_calls_total\{rpc="pgquiver.v1.${rpc}",protocol="${protocol}",code="(\w+)"\} (\d+)`,
      "gm",
    ),
  );
  return Object.fromEntries([...samples].map(([, code, count]) => [code, Number(count)]));
}

/** Expects that the stream which `abandon` opens and leaves is cancelled, no error, in the metrics and in the log. */
async function expectCancelled(rpc: string, protocol: string, abandon: () => Promise<void>): Promise<void> {
  const before = await countOutcomes(rpc, protocol);
  await abandon();
  const expected = { ...before, cancelled: (before["cancelled"] ?? 0) + 1 };
  await expect.poll(() => countOutcomes(rpc, protocol), { timeout: 60_000 }).toEqual(expected);
  await expect.poll(() => lines.length, { timeout: 60_000 }).toBeGreaterThan(0);
  expect(lines).toEqual([
    expect.objectContaining({ rpc: `pgquiver.v1.${rpc}`, level: 30, code: "Canceled" }),
  ]);
}

describe.each(streams)("$rpc left by its caller is cancelled", ({ rpc, path, open }) => {
  test.each(transports)("over %s: %s", async (protocol, _name, transport) => {
    await expectCancelled(rpc, protocol, async () => {
      const stop = new AbortController();
      const read = async () => {
        let messages = 0;
        for await (const _message of open(transport, stop.signal)) if (++messages === 2) stop.abort();
      };
      await expect(read()).rejects.toMatchObject({ rawMessage: expect.stringMatching(/abort/) });
    });
  });

  test("over REST and HTTP/1.1", async () => {
    await expectCancelled(rpc, "rest", async () => {
      const request = get(`${server.url}${path}`);
      const [reply] = await once(request, "response");
      await once(reply, "readable");
      request.on("error", () => {}).destroy();
    });
  });

  test("over REST and HTTP/2", async () => {
    await expectCancelled(rpc, "rest", async () => {
      const session = connectHttp2(server.url);
      const stream = session.request({ ":path": path });
      await once(stream, "readable");
      stream.close(constants.NGHTTP2_CANCEL);
      await once(stream, "close");
      session.close();
    });
  });
});

const onServer = test.runIf(inject("template").kind === "postgres");
onServer("a call whose caller resets it with INTERNAL_ERROR is cancelled, no failure", async () => {
  const blocker = await pool.connect();
  onTestFinished(async () => {
    await blocker.query("rollback");
    blocker.release();
  });
  await blocker.query("begin; lock table vector_stores in access exclusive mode");
  const waiting = async () => (await blocker.query("select from pg_locks where not granted")).rowCount;
  await expectCancelled("DiagnosticsService/Diagnose", "grpc-web", async () => {
    const session = connectHttp2(server.url);
    const stream = session.request({
      ":method": "POST",
      ":path": "/pgquiver.v1.DiagnosticsService/Diagnose",
      "content-type": "application/grpc-web+proto",
    });
    stream.on("error", () => {});
    stream.end(Buffer.alloc(5));
    await expect.poll(waiting).toBeGreaterThan(0);
    stream.close(constants.NGHTTP2_INTERNAL_ERROR);
    await new Promise((resolve) => stream.once("close", resolve));
    session.close();
  });
  await expect.poll(waiting).toBe(0);
});

/** Bodies of each kind that a reset may cut off. */
const CUT = [
  ["/v1/vector_stores", "application/json", '{"id":"x'],
  [
    "/v1/files",
    "multipart/form-data; boundary=x",
    '--x\r\ncontent-disposition: form-data; name="file"; filename="a"',
  ],
  ["/v1/uploads/u/parts", "multipart/form-data; boundary=x", "--x\r\n"],
  ["/v1/vector_stores/vs/embeddings/ingest", "application/x-ndjson", '{"content":'],
  ["/pgquiver.v1.VectorStoreService/CreateVectorStore", "application/json", '{"id":"x'],
] as const;

test("bodies that their callers cut off over HTTP/2 are no failures, and leave the connection to others", async () => {
  const session = connectHttp2(server.url);
  onTestFinished(() => session.destroy());
  const ends: unknown[] = [];
  session.on("error", (error) => ends.push(error)).on("goaway", (code) => ends.push(code));
  // Fewer resets than end a connection (`streamResetBurst`).
  for (let count = 0; count < 100; count++) {
    const [path, type, text] = CUT[count % CUT.length] as (typeof CUT)[number];
    const stream = session.request({ ":method": "POST", ":path": path, "content-type": type });
    // A refusal may come before the reset.
    stream.on("error", () => {});
    stream.write(text);
    await new Promise((resolve) => setImmediate(resolve));
    stream.close(constants.NGHTTP2_CANCEL);
    await once(stream, "close");
  }
  const ping = Promise.withResolvers<void>();
  session.ping((error) => (error === null ? ping.resolve() : ping.reject(error)));
  await ping.promise;
  expect(ends).toEqual([]);
  expect(lines.filter(({ level }) => level > 30)).toEqual([]);
});
