import { once } from "node:events";
import { connect as connectHttp2, constants, type ClientHttp2Session } from "node:http2";
import { connect, type Socket } from "node:net";
import { afterAll, expect, inject, onTestFinished, test } from "vitest";
import { startServer } from "../../support/servers/server.ts";

const port = { bodyWindowMs: 200, bodyWindowBytesMin: 100, healthBytesMax: 1_000 };
const server = await startServer({ port });
afterAll(() => server[Symbol.asyncDispose]());

async function post(path: string, body: object): Promise<void> {
  const headers = { "content-type": "application/json" };
  const reply = await fetch(server.url + path, { method: "POST", headers, body: JSON.stringify(body) });
  expect(reply.status).toBe(200);
}

await post("/v1/vector_stores", { id: "s" });

async function open(head: string): Promise<Socket> {
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
  socket.on("error", () => {});
  onTestFinished(() => void socket.destroy());
  await once(socket, "connect");
  socket.write(head);
  return socket;
}

function openSession(): ClientHttp2Session {
  const session = connectHttp2(server.url);
  session.on("error", () => {});
  onTestFinished(() => session.destroy());
  return session;
}

const upload =
  "POST /v1/vector_stores/s/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

test.each([
  ["nothing", ""],
  ["all but one byte", `{"content":"${"y".repeat(984)}"`],
])("an HTTP/1.1 request that stops after %s of its body gets 408", async (_, body) => {
  const socket = await open(`${upload}Content-Length: 1000\r\n\r\n${body}`);
  let answer = "";
  socket.on("data", (chunk: Buffer) => (answer += chunk.toString()));
  await once(socket, "end");
  expect(answer).toMatch(/^HTTP\/1\.1 408 /);
  expect(answer).toContain('"type":"invalid_request_error"');
});

test("a body that arrives slowly, but fast enough, is read", async () => {
  const content = "z".repeat(2_000);
  const body = JSON.stringify({ content, embedding: [1] });
  const socket = await open(`${upload}Content-Length: ${body.length}\r\n\r\n`);
  const answered = once(socket, "data");
  for (let sent = 0; sent < body.length; sent += 200) {
    socket.write(body.slice(sent, sent + 200));
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  const [answer] = (await answered) as [Buffer];
  expect(answer.toString()).toMatch(/^HTTP\/1\.1 200 /);
});

test.each([
  ["gRPC", "application/grpc", "VectorStoreService/GetVectorStore"],
  ["Connect", "application/proto", "VectorStoreService/GetVectorStore"],
])("a %s request that stops in the middle of its message ends", async (name, type, rpc) => {
  const stream = openSession().request({
    ":method": "POST",
    ":path": `/pgquiver.v1.${rpc}`,
    "content-type": type,
    te: "trailers",
  });
  stream.on("error", () => {});
  let status: unknown;
  stream.on("response", (headers) => (status = headers["grpc-status"]));
  stream.resume().write(Buffer.from([0, 0, 0, 1, 0, 10]));
  await new Promise((resolve) => stream.once("close", resolve));
  if (name === "gRPC") expect(status).toBe("4");
  else expect(stream.rstCode).toBe(constants.NGHTTP2_CANCEL);
});

// Over HTTP/2 the end of a request without a body may come in a frame of its own, which nobody waits for.
test.runIf(inject("template").kind === "postgres").each([
  ["GET", "/v1/vector_stores?limit=1", 200],
  ["HEAD", "/v1/vector_stores?limit=1", 200],
  ["DELETE", "/v1/vector_stores/none", 404],
])("a %s that takes long is not taken for a slow body", async (method, path, status) => {
  const client = await server.database.pool.connect();
  onTestFinished(() => client.release());
  await client.query("begin; lock table vector_stores in access exclusive mode");
  const stream = openSession().request({ ":method": method, ":path": path }, { endStream: false });
  const answered = once(stream, "response");
  stream.resume().end();
  await new Promise((resolve) => setTimeout(resolve, 3 * port.bodyWindowMs));
  await client.query("commit");
  const [headers] = (await answered) as [{ ":status": number }];
  expect(headers[":status"]).toBe(status);
});

test("a health check, which needs no key, holds no more than its small message", async () => {
  const session = openSession();
  const check = (bytes: number) => {
    const stream = session.request({
      ":method": "POST",
      ":path": "/grpc.health.v1.Health/Check",
      "content-type": "application/proto",
    });
    stream.on("error", () => {});
    stream.resume().end(Buffer.alloc(bytes));
    return stream;
  };
  const large = check(80_000);
  await new Promise((resolve) => large.once("close", resolve));
  expect(large.rstCode).toBe(constants.NGHTTP2_CANCEL);
  const [headers] = (await once(check(0), "response")) as [{ ":status": number }];
  expect(headers[":status"]).toBe(200);
});
