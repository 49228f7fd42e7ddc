import { once } from "node:events";
import { connect, type ClientHttp2Session } from "node:http2";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { serveMeasured, watchLatency } from "../../support/servers/measured-service.ts";
import { startServer } from "../../support/servers/server.ts";

const MIB = 1024 * 1024;

const server = await startServer({ apiKeys: ["k"] });
afterAll(() => server[Symbol.asyncDispose]());

/** Opens a connection whose client reads no byte of a body: answers never end. */
function openUnread(url: string): ClientHttp2Session {
  const session = connect(url, { settings: { initialWindowSize: 0 } });
  session.on("error", () => {});
  onTestFinished(() => session.destroy());
  return session;
}

const rpc = "/pgquiver.v1.VectorStoreService/GetVectorStore";

test.each([
  ["an unknown path", "/nope", "", 404],
  ["a method that is not allowed", "/livez", "", 404],
  ["no key, over REST", "/v1/vector_stores", "application/json", 401],
  ["no key, over Connect", rpc, "application/proto", 401],
  ["no key, over gRPC-Web", rpc, "application/grpc-web+proto", 200],
  ["no key, for an upload", "/v1/files", "multipart/form-data; boundary=x", 401],
  ["a content type that Connect refuses", rpc, "text/plain", 415],
])(
  "the body of a request that is refused for %s is dropped, although nobody reads the answer",
  async (_, path, type, status) => {
    const stream = openUnread(server.url).request({
      ":method": "POST",
      ":path": path,
      ...(type === "" ? {} : { "content-type": type }),
    });
    stream.on("error", () => {});
    const answered = once(stream, "response");
    // Larger than the windows of a stream and of a connection together: all is sent only if the server reads it.
    const sent = new Promise((resolve) => stream.write(Buffer.alloc(6 * MIB), resolve));
    expect((await answered)[0][":status"]).toBe(status);
    expect(await sent).toBeOneOf([undefined, null]);
  },
);

test("refused bodies on many connections take no memory, and others are answered", async () => {
  const service = await serveMeasured();
  const innocent = watchLatency(service.address);
  for (let connection = 0; connection < 60; connection++) {
    const session = openUnread(`http://${service.address}`);
    const answers = Array.from({ length: 50 }, async () => {
      const stream = session.request({ ":method": "POST", ":path": "/nope" });
      stream.on("error", () => {});
      stream.write(Buffer.alloc(80_000));
      return ((await once(stream, "response")) as [{ ":status": number }])[0][":status"];
    });
    expect(new Set(await Promise.all(answers))).toEqual(new Set([404]));
  }
  // Alone 60 to 200 ms; the tests that run beside it take most of that.
  expect(await innocent.stop()).toBeLessThan(3_000);
  // 33 to 129 MiB; the bodies have 229.
  expect(await service.growth()).toBeLessThan(220 * MIB);
}, 60_000);

test("a client that disconnects before it has read why its content type is refused does not end the process", async () => {
  const service = await serveMeasured();
  const session = openUnread(`http://${service.address}`);
  const stream = session.request({ ":method": "POST", ":path": rpc, "content-type": "application/xml" });
  stream.on("error", () => {});
  expect((await once(stream, "response"))[0][":status"]).toBe(415);
  session.destroy();
  await once(session, "close");
  for (let call = 0; call < 10; call++)
    expect((await fetch(`http://${service.address}/livez`)).status).toBe(200);
  expect(service.faults).toEqual([]);
}, 60_000);

test.each([
  ["an ingest over gRPC", "/pgquiver.v1.IngestService/Ingest", "application/grpc"],
  ["an ingest over Connect", "/pgquiver.v1.IngestService/Ingest", "application/connect+proto"],
  ["a file over gRPC", "/pgquiver.v1.FileService/UploadFile", "application/grpc"],
  ["a unary call over gRPC", rpc, "application/grpc"],
  ["NDJSON", "/v1/vector_stores/none/embeddings/ingest", "application/x-ndjson"],
  ["a form", "/v1/files", "multipart/form-data; boundary=x"],
  ["JSON", "/v1/vector_stores", "application/json"],
])(
  "more uploads of garbage than a connection may have streams can be refused on it: %s",
  async (_, path, type) => {
    // Node counts what a client has not sent to its own limit.
    const session = connect(server.url, { maxSessionMemory: 1_000 });
    onTestFinished(() => session.destroy());
    const garbage = Buffer.alloc(2 * MIB, " ");
    for (let upload = 0; upload < 110; upload++) {
      const stream = session.request({
        ":method": "POST",
        ":path": path,
        "content-type": type,
        authorization: "Bearer k",
      });
      const closed = once(stream, "close");
      stream.on("error", () => {});
      stream.end(garbage);
      const [headers] = (await once(stream, "response")) as [{ ":status": number }];
      expect(headers[":status"]).toBeOneOf([200, 400, 404, 413]);
      stream.resume();
      await closed;
    }
  },
  60_000,
);
