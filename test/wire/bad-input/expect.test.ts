import { once } from "node:events";
import { connect as connectHttp2, type IncomingHttpHeaders } from "node:http2";
import { connect } from "node:net";
import { text } from "node:stream/consumers";
import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());

/** Sends the head of a request, its body only after `100 Continue`, and reads the answer. */
interface Protocol {
  name: string;
  post: (expectation: string) => Promise<{ status: number; body: string; continued: boolean }>;
}

const BODY = '{"id":"s"}';

const http1: Protocol = {
  name: "HTTP/1.1",
  async post(expectation) {
    const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
    onTestFinished(() => void socket.destroy());
    socket.write(
      `POST /v1/vector_stores HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n` +
        `Content-Length: ${BODY.length}\r\nExpect: ${expectation}\r\n\r\n`,
    );
    const [head] = (await once(socket, "data")) as [Buffer];
    const continued = head.toString().startsWith("HTTP/1.1 100 ");
    if (!continued) return readAnswer(head.toString(), continued);
    socket.write(BODY);
    return readAnswer(await text(socket), continued);
  },
};

function readAnswer(answer: string, continued: boolean) {
  return { status: Number(answer.slice(9, 12)), body: answer.split("\r\n\r\n")[1] ?? "", continued };
}

const http2: Protocol = {
  name: "HTTP/2",
  async post(expectation) {
    const session = connectHttp2(server.url);
    onTestFinished(() => session.destroy());
    const stream = session.request({
      ":method": "POST",
      ":path": "/v1/vector_stores",
      "content-type": "application/json",
      expect: expectation,
    });
    let continued = false;
    stream.once("continue", () => {
      continued = true;
      stream.end(BODY);
    });
    const [headers] = (await once(stream, "response")) as [IncomingHttpHeaders];
    return { status: Number(headers[":status"]), body: await text(stream), continued };
  },
};

describe.each([http1, http2])("over $name", ({ post }) => {
  test.each(["100-continue", "100-Continue"])(
    "Expect: %s is answered by 100, then by the reply",
    async (value) => {
      const { status, continued, body } = await post(value);
      expect({ continued, isKnown: [200, 409].includes(status) }, body).toEqual({
        continued: true,
        isKnown: true,
      });
    },
  );

  test("an expectation that nobody knows is refused before the body", async () => {
    const { status, continued, body } = await post("wonders");
    expect({ status, continued }).toEqual({ status: 417, continued: false });
    expect(JSON.parse(body)).toEqual({
      error: {
        message: "Unknown header 'Expect: wonders'.",
        type: "invalid_request_error",
        param: null,
        code: "invalid_request",
      },
    });
  });
});

test("a gRPC call that waits for 100 Continue is answered", async () => {
  const session = connectHttp2(server.url);
  onTestFinished(() => session.destroy());
  const stream = session.request({
    ":method": "POST",
    ":path": "/pgquiver.v1.VectorStoreService/ListVectorStores",
    "content-type": "application/grpc",
    te: "trailers",
    expect: "100-continue",
  });
  stream.once("continue", () => stream.end(Buffer.alloc(5)));
  const trailers = once(stream, "trailers");
  stream.resume();
  expect((await trailers)[0]["grpc-status"]).toBe("0");
});
