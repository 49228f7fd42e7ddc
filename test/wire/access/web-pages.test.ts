import { once } from "node:events";
import { request } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { text } from "node:stream/consumers";
import type { IncomingMessage } from "node:http";
import { afterAll, describe, expect, test } from "vitest";
import { startServer } from "../../support/servers/server.ts";

const bare = await startServer();
const withOrigin = await startServer({ database: bare.database, corsOrigins: ["http://app.example"] });
const withKey = await startServer({ database: bare.database, apiKeys: ["a-key-of-16-chars"] });
afterAll(async () => {
  for (const server of [withKey, withOrigin, bare]) await server[Symbol.asyncDispose]();
});

type Server = typeof bare;

/** Sends a request with exactly these headers, as fetch would not. */
async function send(
  server: Server,
  method: string,
  path: string,
  headers: Record<string, string>,
  body = "",
) {
  const { hostname, port } = new URL(server.url);
  const sent = request({ hostname, port, method, path, headers });
  sent.end(body);
  const [reply] = (await once(sent, "response")) as [IncomingMessage];
  return { status: reply.statusCode, text: await text(reply) };
}

/** What a page can send without asking first (CORS' simple requests), and what DNS rebinding allows. */
const attacks: [string, string, Record<string, string>, string][] = [
  ["POST", "/v1/vector_stores", {}, ""],
  ["POST", "/v1/vector_stores/s/embeddings/ingest", {}, '{"content":"x"}'],
  ["POST", "/v1/files", { "content-type": "multipart/form-data; boundary=b" }, "--b--"],
  ["DELETE", "/v1/vector_stores/s", {}, ""],
  ["GET", "/v1/vector_stores", {}, ""],
  ["GET", "/metrics", {}, ""],
  ["POST", "/pgquiver.v1.VectorStoreService/ListVectorStores", { "content-type": "application/json" }, "{}"],
  [
    "POST",
    "/pgquiver.v1.VectorStoreService/ListVectorStores",
    { "content-type": "application/grpc-web+proto" },
    "",
  ],
];

describe.each(attacks)("without a key, %s %s is refused", (method, path, headers, body) => {
  test.each<[string, Record<string, string>]>([
    ["for another host", { host: "evil.example" }],
    ["for a host that begins like loopback", { host: "localhost.evil.example:80" }],
    ["from a page of another site", { origin: "https://evil.example" }],
    ["from a page without an origin", { origin: "null" }],
    ["from a page on another port", { origin: "http://127.0.0.1:1" }],
    ["from another site that sends no origin", { "sec-fetch-site": "cross-site" }],
  ])("%s", async (_, foreign) => {
    const { status, text: answer } = await send(bare, method, path, { ...headers, ...foreign }, body);
    expect(status).toBe(403);
    expect(answer).toContain("SERVER_API_KEY");
    expect(answer).toContain('"code":"foreign_origin"');
  });
});

test("without a key, gRPC is refused for another host and for another origin", async () => {
  for (const foreign of [{ ":authority": "evil.example" }, { origin: "https://evil.example" }]) {
    const session = connectHttp2(bare.url);
    const stream = session.request({
      ":method": "POST",
      ":path": "/pgquiver.v1.VectorStoreService/ListVectorStores",
      "content-type": "application/grpc",
      ...foreign,
    });
    stream.resume().end(Buffer.alloc(5));
    const [headers] = (await once(stream, "response")) as [Record<string, string>];
    expect(headers["grpc-status"]).toBe("7");
    session.destroy();
  }
});

test.each<[string, Record<string, string>]>([
  ["localhost", { host: "localhost:8000" }],
  ["a name under localhost", { host: "vectors.localhost" }],
  ["IPv6 loopback", { host: "[::1]:8000" }],
  ["its own page", { host: "localhost:8000", origin: "http://localhost:8000" }],
  ["a program", {}],
  ["a link that somebody follows on the same site", { "sec-fetch-site": "none" }],
])("without a key, %s is served", async (_, headers) => {
  expect((await send(bare, "GET", "/v1/vector_stores", headers)).status).toBe(200);
});

test("without a key, an origin of CORS_ORIGINS is served, and no other", async () => {
  const from = async (origin: string) =>
    (await send(withOrigin, "GET", "/v1/vector_stores", { origin, "sec-fetch-site": "cross-site" })).status;
  expect(await from("http://app.example")).toBe(200);
  expect(await from("http://evil.example")).toBe(403);
});

test("with a key, the key decides", async () => {
  const foreign = { host: "vectors.example", origin: "https://page.example", "sec-fetch-site": "cross-site" };
  expect((await send(withKey, "GET", "/v1/vector_stores", foreign)).status).toBe(401);
  const authorization = "Bearer a-key-of-16-chars";
  expect((await send(withKey, "GET", "/v1/vector_stores", { ...foreign, authorization })).status).toBe(200);
});
