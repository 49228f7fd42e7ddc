import { once } from "node:events";
import { request, type ClientRequest, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { afterAll, expect, onTestFinished, test } from "vitest";
import { startServer } from "../../support/servers/server.ts";

/** Memory for four uploads. */
const server = await startServer({ ingest: { memoryBytes: 32 * 1024 * 1024 } });
afterAll(() => server[Symbol.asyncDispose]());
const { hostname, port } = new URL(server.url);

function upload(localAddress: string): ClientRequest {
  const sent = request({
    hostname,
    port,
    localAddress,
    method: "POST",
    path: "/v1/vector_stores/s/embeddings/ingest",
    headers: { "content-type": "application/x-ndjson", host: "localhost" },
    agent: false,
  });
  sent.on("error", () => {});
  onTestFinished(() => void sent.destroy());
  sent.flushHeaders();
  return sent;
}

async function answerOf(sent: ClientRequest): Promise<number | undefined> {
  const [reply] = (await once(sent, "response")) as [IncomingMessage];
  await text(reply);
  return reply.statusCode;
}

test("half-open uploads of one address leave slots to others", async () => {
  await fetch(`${server.url}/v1/vector_stores`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: '{"id":"s"}',
  });
  for (let open = 0; open < 6; open++) upload("127.0.0.1");
  const row = '{"content":"x","embedding":[1]}';
  await expect.poll(async () => answerOf(upload("127.0.0.1").end(row))).toBe(429);
  expect(await answerOf(upload("127.0.0.2").end(row))).toBe(200);
});
