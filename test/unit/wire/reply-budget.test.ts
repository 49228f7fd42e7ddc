import { once } from "node:events";
import { createServer } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test } from "vitest";
import { ReplyBudget } from "../../../src/wire/reply-budget.ts";

/** More than the kernel's buffers hold. */
const REPLY = Buffer.alloc(32 * 1024 * 1024, "x");

/** Serves `REPLY`, or 429 where the budget has no room for it. */
async function serve(unreadGraceMs: number): Promise<number> {
  const budget = new ReplyBudget({ unreadBytesMax: REPLY.length, unreadGraceMs });
  const server = createServer((_request, response) => {
    try {
      budget.hold(response, REPLY.length);
      response.end(REPLY);
    } catch {
      response.writeHead(429).end();
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

async function ask(port: number) {
  const socket = connect(port, "127.0.0.1");
  onTestFinished(() => void socket.destroy());
  socket.on("error", () => {});
  socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  await once(socket, "readable");
  const head = String(socket.read());
  return { socket, status: head.slice(9, 12), closed: once(socket, "close") };
}

test("a new reply ends the oldest that is not read over HTTP/1.1", async () => {
  const port = await serve(0);
  const first = await ask(port);
  const second = await ask(port);
  expect([first.status, second.status]).toEqual(["200", "200"]);
  first.socket.resume();
  await first.closed;
  expect(first.socket.bytesRead).toBeLessThan(REPLY.length);
  expect((await text(second.socket)).length).toBeGreaterThan(REPLY.length / 2);
  expect(second.socket.bytesRead).toBeGreaterThan(REPLY.length);
});

test("a young reply is left alone, and a reply that was read makes room", async () => {
  const port = await serve(60_000);
  const first = await ask(port);
  expect(first.status).toBe("200");
  expect((await ask(port)).status).toBe("429");
  first.socket.resume();
  await first.closed;
  expect(first.socket.bytesRead).toBeGreaterThan(REPLY.length);
  expect((await ask(port)).status).toBe("200");
});
