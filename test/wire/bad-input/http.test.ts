import { once } from "node:events";
import { Agent, request as httpRequest, type ClientRequest, type IncomingMessage } from "node:http";
import { connect } from "node:http2";
import { connect as connectTcp } from "node:net";
import type { Writable } from "node:stream";
import { text as readText } from "node:stream/consumers";
import { afterAll, afterEach, beforeEach, describe, expect, test } from "vitest";
import { expectError, send } from "../../support/clients/http.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
const { pool } = server.database;
afterAll(() => server[Symbol.asyncDispose]());

const url = `${server.url}/v1/vector_stores`;
await send(url, "POST", '{"id": "s"}');
const countStores = async () =>
  Number((await pool.query("select count(*) from vector_stores")).rows[0].count);
let before: number;
beforeEach(async () => void (before = await countStores()));
// What is refused leaves no trace.
afterEach(async () => expect(await countStores()).toBe(before));

describe("a path that leads nowhere", () => {
  test.each([
    "/v1",
    "/v1/vector_store",
    "/v2/vector_stores",
    "/v1/vector_stores/s/embeddings/e/x",
    "//v1/vector_stores",
    "/favicon.ico",
  ])("%s is 404", async (path) => {
    for (const verb of ["GET", "POST", "DELETE"]) {
      const reply = await send(server.url + path, verb, verb === "GET" ? undefined : "{}");
      expectError(reply, 404, { param: null, code: null, message: `Invalid URL (${verb} ${path})` });
    }
  });

  test("is 404 without its query", async () => {
    expectError(await send(`${server.url}/nope?key=secret`, "GET"), 404, {
      message: "Invalid URL (GET /nope)",
    });
  });

  test("that cannot be decoded is refused", async () => {
    expectError(await send(`${url}/%ZZ`, "GET"), 400, { code: "invalid_request" });
    expectError(await send(`${url}/%ff`, "GET"), 400, { code: "invalid_request" });
  });

  test("with a longer id than any there is, is refused", async () => {
    const reply = await send(`${url}/${"x".repeat(2000)}`, "GET");
    expectError(reply, reply.status === 414 ? 414 : 404);
  });
});

describe("a method that is not allowed", () => {
  test.each([
    ["PUT", "", "GET, POST"],
    ["PATCH", "", "GET, POST"],
    ["DELETE", "", "GET, POST"],
    ["PUT", "/s", "DELETE, GET, POST"],
    ["GET", "/s/search", "POST"],
    ["DELETE", "/s/embeddings", "GET, POST"],
    ["PUT", "/s/embeddings/e", "DELETE, GET, PATCH, POST"],
  ])("%s %s is 405", async (verb, path, allowed) => {
    const reply = await send(url + path, verb);
    expectError(reply, 405, { param: null, code: "invalid_request" });
    expect(reply.headers.get("allow")?.split(", ").toSorted().join(", ")).toBe(allowed);
  });
});

describe("JSON's content type without a body", () => {
  const json = { "content-type": "application/json" };

  test.each([
    ["DELETE", "", 405],
    ["PUT", "/s", 405],
    ["DELETE", "/s/search", 405],
    ["DELETE", "/s/none", 404],
    ["POST", "/s/none", 404],
  ])("is not looked at where %s %s is %i", async (verb, path, status) => {
    const reply = await send(url + path, verb, undefined, json);
    expectError(reply, status);
    expect(reply.headers.has("allow")).toBe(status === 405);
  });

  test("nor is a body, where there is no route", async () => {
    expectError(await send(`${url}/s/none`, "POST", "{", json), 404);
  });

  test("is taken where a route needs no body", async () => {
    const made = await send(url, "POST", undefined, json);
    expect(made.status).toBe(200);
    const { id } = JSON.parse(made.text) as { id: string };
    const batch = `${url}/${id}/file_batches/vsfb_${"0".repeat(32)}/cancel`;
    expectError(await send(batch, "POST", undefined, json), 404, {
      message: expect.stringContaining("vsfb_"),
    });
    expect((await send(`${url}/${id}/embeddings`, "GET", undefined, json)).status).toBe(200);
    expect((await send(`${url}/${id}`, "POST", undefined, json)).status).toBe(200);
    expect((await send(`${url}/${id}`, "DELETE", undefined, json)).status).toBe(200);
  });
});

describe("a content type", () => {
  test.each([
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/xml",
    "application/jsonp",
    "x",
  ])("%s is 415", async (type) => {
    const reply = await send(url, "POST", '{"name": "a"}', { "content-type": type });
    expectError(reply, 415, {
      param: null,
      code: "invalid_request",
      message: expect.stringContaining("application/json"),
    });
  });

  test.each(["application/json; charset=utf-8", "Application/JSON"])("%s is JSON", async (type) => {
    expect((await send(`${url}/s`, "POST", '{"name": "a"}', { "content-type": type })).status).toBe(200);
  });
});

describe("a body that is too large", () => {
  const body = Buffer.alloc(64 * 1024 * 1024, " ");
  body.write('{"name": "');

  /** Sends the head of a request of HTTP/1.1; its answer comes when it comes. */
  function start(headers: Record<string, string | number>): {
    request: ClientRequest;
    answer: Promise<IncomingMessage>;
  } {
    const request = httpRequest(url, {
      method: "POST",
      agent: new Agent(),
      headers: { "content-type": "application/json", ...headers },
    });
    const answer = once(request, "response").then(([reply]) => reply as IncomingMessage);
    // The server may close while the client still writes.
    request.on("error", () => undefined);
    return { request, answer };
  }

  async function expectTooLarge(answer: IncomingMessage): Promise<void> {
    const headers = new Headers(answer.headers as Record<string, string>);
    expectError({ status: answer.statusCode ?? 0, headers, text: await readText(answer) }, 413, {
      code: "request_too_large",
      message: "The request has more than 1048576 bytes; 1048576 are allowed.",
    });
  }

  test("is refused by its length alone", async () => {
    const { request, answer } = start({ "content-length": body.length });
    request.flushHeaders();
    await expectTooLarge(await answer);
    request.destroy();
  });

  test("is refused while it is sent", async () => {
    const { request, answer } = start({ "content-length": body.length });
    request.end(body);
    await expectTooLarge(await answer);
    request.destroy();
  });

  /** Writes without end until the answer is there; how many bytes that took. */
  async function writeUntil(answer: Promise<unknown>, stream: Writable): Promise<number> {
    const chunk = body.subarray(0, 1024 * 1024);
    let isAnswered = false;
    const answered = answer.then(() => void (isAnswered = true));
    let sentBytes = 0;
    while (!isAnswered && sentBytes < 8 * body.length) {
      sentBytes += chunk.length;
      if (!stream.write(chunk)) await Promise.race([once(stream, "drain"), answered]);
    }
    await answered;
    return sentBytes;
  }

  test("is refused where it passes the limit when its length is not known", async () => {
    const { request, answer } = start({ "transfer-encoding": "chunked" });
    const sentBytes = await writeUntil(answer, request);
    await expectTooLarge(await answer);
    request.destroy();
    // The server keeps no more than its limit; the rest is in the sockets.
    expect(sentBytes).toBeLessThan(body.length);
  });

  test("leaves the connection of HTTP/2 usable", async () => {
    const session = connect(server.url);
    const post = () =>
      session.request({
        ":method": "POST",
        ":path": "/v1/vector_stores/s",
        "content-type": "application/json",
      });
    for (let round = 0; round < 3; round++) {
      const large = post().resume();
      const answer = once(large, "response");
      expect(await writeUntil(answer, large)).toBeLessThan(body.length);
      expect((await answer)[0][":status"]).toBe(413);
    }
    const small = post();
    small.end('{"name": "after"}');
    expect((await once(small, "response"))[0][":status"]).toBe(200);
    session.destroy();
  });
});

describe("bytes that are no request", () => {
  /** Sends bytes and reads what comes back until the server closes. */
  async function exchange(bytes: string): Promise<string> {
    const socket = connectTcp(Number(new URL(server.url).port), "127.0.0.1");
    socket.write(bytes);
    const answer = await readText(socket);
    socket.destroy();
    return answer;
  }

  /** Expects OpenAI's error body in the bytes of an answer, after which the connection is closed. */
  function expectRefusal(answer: string, status: number, message: unknown): void {
    const [head = "", text = ""] = answer.split("\r\n\r\n");
    const [line, ...fields] = head.split("\r\n");
    expect(line).toMatch(new RegExp(`^HTTP/1\\.1 ${status} \\w`));
    const headers = new Headers(fields.map((field) => field.split(": ", 2) as [string, string]));
    expectError({ status, headers, text }, status, { code: "invalid_request", message });
    expect(headers.get("content-length")).toBe(String(Buffer.byteLength(text)));
  }

  const start = "POST /v1/vector_stores HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n";

  test.each([
    ["nonsense\r\n\r\n", /HTTP/],
    ["NONSENSE / HTTP/1.1\r\nhost: localhost\r\n\r\n", /method/],
    ["GET / HTTP/9.9\r\n\r\n", /version/],
    ["GET /\0 HTTP/1.1\r\nhost: localhost\r\n\r\n", /char/],
    [`${start}content-length: much\r\n\r\n`, /Content-Length/],
    [`${start}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n`, /Content-Length/],
    [`${start}transfer-encoding: chunked\r\n\r\nx\r\n`, /chunk/],
  ])("are refused in OpenAI's envelope and the connection closed: %j", async (bytes, message) => {
    expectRefusal(await exchange(bytes), 400, expect.stringMatching(message));
  });

  test.each([20_000, 20_000_000])("%i bytes of headers are refused", async (length) => {
    const bytes = `GET / HTTP/1.1\r\nhost: localhost\r\nx: ${"y".repeat(length)}\r\n\r\n`;
    expectRefusal(await exchange(bytes), 431, "The headers of the request are too large.");
  });

  test("amid the answer to another request end the connection, and are not answered", async () => {
    const lines = Array.from({ length: 3_000 }, () =>
      JSON.stringify({ content: "x".repeat(2_000), embedding: [1] }),
    );
    await send(url, "POST", '{"id": "long"}');
    await send(`${url}/long/embeddings/ingest`, "POST", lines.join("\n"), {
      "content-type": "application/x-ndjson",
    });
    const socket = connectTcp(Number(new URL(server.url).port), "127.0.0.1");
    socket.write("GET /v1/vector_stores/long/embeddings/export HTTP/1.1\r\nhost: localhost\r\n\r\n");
    await once(socket, "readable");
    socket.write("nonsense\r\n\r\n");
    const answer = await readText(socket);
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer).not.toContain("HTTP/1.1 400");
    expect(answer).not.toMatch(/\r\n0\r\n\r\n$/);
    await send(`${url}/long`, "DELETE");
  });

  test("a request that does not say its host is refused", async () => {
    const answer = await exchange("GET /v1/vector_stores HTTP/1.1\r\nconnection: close\r\n\r\n");
    expectRefusal(answer, 400, "Missing header: 'Host'.");
  });
});

test.each(["Host: other", "Authorization: Bearer b"])(
  "a request with '%s' twice is refused",
  async (header) => {
    const socket = connectTcp(Number(new URL(server.url).port), "127.0.0.1");
    const name = header.split(":", 1)[0] ?? "";
    const first = name === "Host" ? "Host: localhost" : "Authorization: Bearer a\r\nHost: localhost";
    socket.write(`GET /v1/vector_stores HTTP/1.1\r\n${first}\r\n${header}\r\nConnection: close\r\n\r\n`);
    const reply = await readText(socket);
    expect(reply).toContain("HTTP/1.1 400 ");
    expect(reply).toContain(`The header '${name.toLowerCase()}' is given more than once.`);
  },
);

test.each([
  ["connect-timeout-ms", "9999999999"],
  ["grpc-timeout", "99999999H"],
])("a deadline in %s beyond what a timer can run is no deadline that has passed", async (name, value) => {
  const overflows: Error[] = [];
  const onWarning = (warning: Error) => overflows.push(warning);
  process.on("warning", onWarning);
  const headers = { "content-type": "application/json", [name]: value };
  const path = "/pgquiver.v1.VectorStoreService/ListVectorStores";
  const reply = await fetch(server.url + path, { method: "POST", headers, body: "{}" });
  expect(reply.status).toBe(200);
  process.off("warning", onWarning);
  expect(overflows.filter(({ name: kind }) => kind === "TimeoutOverflowWarning")).toEqual([]);
});
