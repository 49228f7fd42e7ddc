import { once } from "node:events";
import type { RequestListener } from "node:http";
import { connect, constants, type ClientHttp2Session, type Settings } from "node:http2";
import type { AddressInfo } from "node:net";
import { buffer, text } from "node:stream/consumers";
import { expect, onTestFinished, test } from "vitest";
import { createPortServer, type PortOptions } from "../../../src/wire/port.ts";

/** A reply that is larger than `maxSessionMemory`. */
const large = Buffer.alloc(12_000_000, "0123456789");

/** Answers /large with `large` at once, /chunks in many writes, everything else with "ok". */
const handler: RequestListener = (request, response) => {
  if (request.url === "/large") return void response.end(large);
  if (request.url !== "/chunks") return void response.end("ok");
  for (let start = 0; start < large.length; start += 100_003)
    response.write(large.subarray(start, start + 100_003));
  response.write("the ");
  response.write("€nd", "utf8");
  response.end();
};

async function open(settings: Settings = {}, options: PortOptions = {}): Promise<ClientHttp2Session> {
  const server = createPortServer(handler, options);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const session = connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, { settings });
  session.on("error", () => {});
  onTestFinished(() => {
    session.destroy();
    server.close();
    server.closeAllConnections();
  });
  await once(session, "remoteSettings");
  return session;
}

const read = (session: ClientHttp2Session, path: string) => text(session.request({ ":path": path }));

/** Resets a large reply after its first bytes. */
async function reset(session: ClientHttp2Session): Promise<void> {
  const stream = session.request({ ":path": "/large" });
  stream.on("error", () => {});
  const closed = new Promise((resolve) => stream.once("close", resolve));
  stream.once("readable", () => stream.close(constants.NGHTTP2_CANCEL));
  await closed;
}

test("a reply of many pieces arrives whole, in one write or in many", async () => {
  const session = await open();
  expect((await buffer(session.request({ ":path": "/large" }))).equals(large)).toBe(true);
  const body = await buffer(session.request({ ":path": "/chunks" }));
  expect(body.subarray(0, large.length).equals(large)).toBe(true);
  expect(body.subarray(large.length).toString()).toBe("the €nd");
});

test("resets of large replies leave the connection usable", async () => {
  const session = await open();
  for (let resets = 0; resets < 60; resets++) await reset(session);
  expect(await read(session, "/")).toBe("ok");
});

test("a connection is given up by GOAWAY before what resets leave in its memory fills it", async () => {
  // A window that ends within a piece: the rest of the piece stays in the session's memory with each reset.
  const session = await open({ initialWindowSize: 70_000 }, { sessionLostBytesMax: 200_000 });
  let resets = 0;
  let refused = 0;
  session.on("goaway", (code) => (refused += code));
  while (!session.closed && !session.destroyed && resets < 200) {
    await reset(session);
    resets++;
  }
  expect(resets).toBeGreaterThan(10);
  expect(resets).toBeLessThan(50);
  expect(refused).toBe(constants.NGHTTP2_NO_ERROR);
});

test("a stream whose client does not read its reply is reset", async () => {
  const session = await open({}, { writeStallTimeoutMs: 100 });
  const stalled = session.request({ ":path": "/large" });
  await once(stalled, "close");
  expect(stalled.rstCode).toBe(constants.NGHTTP2_CANCEL);
  expect(await read(session, "/")).toBe("ok");
});

test("a client that reads slowly, but reads, gets all of its reply", async () => {
  const session = await open({}, { writeStallTimeoutMs: 300 });
  const stream = session.request({ ":path": "/large" });
  let bytes = 0;
  stream.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    stream.pause();
    setTimeout(() => stream.resume(), 1);
  });
  await once(stream, "end");
  expect(bytes).toBe(large.length);
});
