import { once } from "node:events";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { send } from "../../support/http.ts";
import { startServer } from "../../support/server.ts";

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

// Connect itself answers 505 and closes the connection at once: the client's next bytes cause a reset.
test("a stream in both directions over HTTP/1.1 is refused, and the client can send its body to the end", async () => {
  const socket = connect({ host: "127.0.0.1", port: Number(new URL(server.url).port) });
  const body = Buffer.alloc(256 * 1024);
  socket.write(
    `PUT /pgquiver.v1.IngestService/IngestSession HTTP/1.1\r\nhost: ${new URL(server.url).host}\r\n` +
      `content-type: application/connect+json\r\ncontent-length: ${body.length}\r\n\r\n`,
  );
  const [answer] = (await once(socket, "data")) as [Buffer];
  expect(answer.toString()).toMatch(/^HTTP\/1\.1 505 /);
  expect(answer.toString()).toContain("A stream in both directions needs HTTP/2.");
  socket.write(body.subarray(0, body.length / 2));
  // One direction in one write: the reset arrives between two.
  await new Promise((resolve) => setImmediate(resolve));
  socket.write(body.subarray(body.length / 2));
  socket.end("GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
  expect(await text(socket)).toMatch(/^HTTP\/1\.1 200 /);
});
