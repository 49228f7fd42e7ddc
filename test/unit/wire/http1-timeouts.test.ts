import { once } from "node:events";
import type { RequestListener } from "node:http";
import { connect, type AddressInfo, type Socket } from "node:net";
import { expect, onTestFinished, test } from "vitest";
import { createPortServer, type PortOptions } from "../../../src/wire/port.ts";

/** Starts a server and sends it a request; gives both ends of the connection. */
async function open(
  options: PortOptions,
  handler: RequestListener,
): Promise<{ client: Socket; socket: Socket }> {
  const server = createPortServer(handler, options);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const accepted = once(server, "connection") as Promise<[Socket]>;
  const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
  client.on("error", () => {});
  onTestFinished(() => {
    client.destroy();
    server.close();
    server.closeAllConnections();
  });
  client.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  const [socket] = await accepted;
  return { client, socket };
}

const large = Buffer.alloc(12_000_000);

test("a client that does not read its reply is disconnected", async () => {
  const options = { writeStallTimeoutMs: 50, idleTimeoutMs: 60_000 };
  const { client, socket } = await open(options, (_request, response) => response.end(large));
  client.pause();
  await once(socket, "close");
});

test("a client that reads slowly, but reads, gets all of its reply", async () => {
  const options = { writeStallTimeoutMs: 300, idleTimeoutMs: 300 };
  const { client } = await open(options, (_request, response) => response.end(large));
  let bytes = 0;
  client.on("data", (chunk: Buffer) => {
    bytes += chunk.length;
    client.pause();
    setTimeout(() => client.resume(), 1);
  });
  await expect.poll(() => bytes).toBeGreaterThan(large.length);
});

test("a client waits for its reply for longer than the write timeout, up to the idle timeout", async () => {
  const options = { writeStallTimeoutMs: 20, idleTimeoutMs: 400 };
  const startedAt = performance.now();
  const { socket } = await open(options, () => {});
  await once(socket, "close");
  expect(performance.now() - startedAt).toBeGreaterThan(390);
});
