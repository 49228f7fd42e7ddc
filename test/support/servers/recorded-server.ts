import { once } from "node:events";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";

/** A request and its reply. */
interface Exchange {
  request: string;
  body?: unknown;
  status: number;
  reply: unknown;
}

/**
 * A server of another product. `live`: the URL of the product itself, whose exchanges are written into the recording; without
 * it, the recording is played: the same requests in the same order are answered as the product answered, others with 400.
 */
export async function startRecordedServer(
  name: string,
  live: string | undefined,
): Promise<{ url: string } & AsyncDisposable> {
  const file = join(import.meta.dirname, "../../wire/recordings", `${name}.json`);
  const recorded: Exchange[] =
    live === undefined && existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : [];
  const exchanges: Exchange[] = [];
  const server = createServer((incoming, outgoing) => {
    void (async () => {
      const body = await text(incoming);
      const request = `${incoming.method} ${incoming.url}`;
      const asked = { request, ...(body !== "" && { body: JSON.parse(body) as unknown }) };
      const exchange = live === undefined ? play(recorded.shift(), asked) : await forward(live, asked);
      exchanges.push(exchange);
      outgoing.writeHead(exchange.status, { "content-type": "application/json" });
      outgoing.end(JSON.stringify(exchange.reply));
    })();
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
      if (live !== undefined) writeFileSync(file, `${JSON.stringify(exchanges)}\n`);
    },
  };
}

function play(exchange: Exchange | undefined, asked: Pick<Exchange, "request" | "body">): Exchange {
  const [expected, got] = [exchange, asked].map((one) => JSON.stringify([one?.request, one?.body]));
  if (exchange !== undefined && expected === got) return exchange;
  return { ...asked, status: 400, reply: `not in the recording: ${got}, but ${expected}` };
}

async function forward(live: string, asked: Pick<Exchange, "request" | "body">): Promise<Exchange> {
  const [method = "", path = ""] = asked.request.split(" ");
  const answer = await fetch(live + path, {
    method,
    ...(asked.body !== undefined && {
      body: JSON.stringify(asked.body),
      headers: { "content-type": "application/json" },
    }),
  });
  return { ...asked, status: answer.status, reply: await answer.json() };
}
