import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { send } from "../../support/clients/http.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

await send(`${server.url}/v1/vector_stores`, "POST", '{"id": "s"}');
const content = async () => [
  (await pool.query("select * from vector_stores")).rows,
  (await pool.query("select * from embeddings")).rows,
];
let before: unknown;
beforeEach(async () => void (before = await content()));
// What is refused leaves no trace.
afterEach(async () => expect(await content()).toEqual(before));

const create = "EmbeddingService/CreateEmbedding";
const row = (fields: string) =>
  `{"vector_store_id": "s", "embedding": {"content": "a", "embedding": [1, 2], ${fields}}}`;
const nested = (open: string, core: string, close: string) =>
  open.repeat(10_000) + core + close.repeat(10_000);

describe("Connect's own JSON", () => {
  test.each([
    ["that is none", create, "{"],
    ["that is no object", create, "[]"],
    ["without an embedding", create, '{"vector_store_id": "s"}'],
    ["of a wrong type", create, '{"vector_store_id": 1}'],
    [
      "with half a surrogate pair in a text",
      create,
      '{"vector_store_id": "s", "embedding": {"content": "\\ud83d"}}',
    ],
    ["with half a surrogate pair in metadata", create, row('"metadata": {"k": "\\ud83d"}')],
    ["with NUL", create, row('"metadata": {"k": "\\u0000"}')],
    ["with NaN", create, '{"vector_store_id": "s", "embedding": {"content": "a", "embedding": ["NaN", 1]}}'],
    ["with a number that is none", create, row('"metadata": {"k": 1e999}')],
    ["with metadata 10,000 deep", create, row(`"metadata": ${nested('{"a":', "1", "}")}`)],
    [
      "with a filter 10,000 deep",
      "SearchService/Search",
      `{"vector_store_id": "s", "query": ["a"], "filters": ${nested('{"type": "FILTER_TYPE_AND", "filters": [', "{}", "]}")}}`,
    ],
  ])("%s is refused", async (_, rpc, body) => {
    const reply = await send(`${server.url}/pgquiver.v1.${rpc}`, "POST", body);
    expect(reply.status).toBe(400);
    expect(reply.headers.get("x-request-id")).toMatch(/^[0-9a-f-]{36}$/);
    expect(JSON.parse(reply.text)).toMatchObject({
      code: "invalid_argument",
      message: expect.stringMatching(/\w/),
    });
  });
});

/** Opens a connection over HTTP/1.1 and sends a streaming call with a body of so many bytes of noise. */
function sendStream(verb: string, rpc: string, bytes: number): Socket {
  const { hostname, host, port } = new URL(server.url);
  const socket = connect({ host: hostname, port: Number(port) });
  socket.write(
    `${verb} /pgquiver.v1.${rpc} HTTP/1.1\r\nhost: ${host}\r\n` +
      `content-type: application/connect+json\r\ncontent-length: ${bytes}\r\n\r\n`,
  );
  return socket;
}

/** Sends a further request over the connection; resolves to all that the service answers from now on. */
function askOnce(socket: Socket): Promise<string> {
  socket.write("GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
  return text(socket);
}

describe("over HTTP/1.1", () => {
  // Connect itself answers 505 and closes the connection at once: the client's next bytes cause a reset.
  test("a stream in both directions is refused, and the client can send its body to the end", async () => {
    const half = Buffer.alloc(128 * 1024);
    const socket = sendStream("PUT", "IngestService/IngestSession", 2 * half.length);
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 505 /);
    expect(answer.toString()).toContain("A stream in both directions needs HTTP/2.");
    socket.write(half);
    // A reset would arrive between two writes.
    await new Promise((resolve) => setImmediate(resolve));
    socket.write(half);
    expect(await askOnce(socket)).toMatch(/^HTTP\/1\.1 200 /);
  });

  // Node reads 64 KiB ahead. What is left unread of a stream kept the connection's next request unread, too.
  test.each([
    ["of 100 KiB of noise", Buffer.alloc(100 * 1024, "x")],
    ["of 10 MiB of noise", Buffer.alloc(10 * 1024 * 1024, "x")],
    ["of 100 KiB into no store", ingestInto("none", 100)],
    ["of 10 MiB into no store", ingestInto("none", 10_240)],
  ])("the connection goes on after a stream %s was refused", async (_, body) => {
    const socket = sendStream("POST", "IngestService/Ingest", body.length);
    socket.write(body);
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(answer.toString()).toMatch(/^HTTP\/1\.1 200 /);
    expect(await askOnce(socket)).toMatch(/HTTP\/1\.1 200 OK[^]*ok/);
  });
});

/** The messages of an ingest, in Connect's JSON: its opening, and batches of 1 KiB. */
function ingestInto(id: string, batches: number): Buffer {
  const envelope = (message: object) => {
    const bytes = Buffer.from(JSON.stringify(message));
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(bytes.length, 1);
    return Buffer.concat([prefix, bytes]);
  };
  const batch = { rows: [{ content: "x".repeat(960), embedding: [1, 2] }] };
  return Buffer.concat([
    envelope({ open: { vectorStoreId: id } }),
    ...Array.from({ length: batches }, (_, index) =>
      envelope({ batch: { ...batch, seq: String(index + 1) } }),
    ),
  ]);
}
