import { once } from "node:events";
import { request, type ClientRequest, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { startServer } from "../../support/servers/server.ts";

const MIB = 1024 * 1024;

/** Memory for four uploads, and for bodies of 4 MiB. */
const server = await startServer({
  apiKeys: ["greedy", "innocent"],
  ingest: { memoryBytes: 32 * MIB },
  requestMemoryBytes: 4 * MIB,
});
afterAll(() => server[Symbol.asyncDispose]());
const { hostname, port } = new URL(server.url);

interface Call {
  authorization: string;
  method?: string;
  path?: string;
  headers?: Record<string, string | number>;
  localAddress?: string;
}

function begin({
  authorization,
  method = "POST",
  path = "",
  headers = {},
  localAddress,
}: Call): ClientRequest {
  const sent = request({
    hostname,
    port,
    localAddress,
    method,
    path: `/v1/vector_stores${path}`,
    headers: { authorization, ...headers },
    agent: false,
  });
  sent.on("error", () => {});
  onTestFinished(() => void sent.destroy());
  sent.flushHeaders();
  return sent;
}

async function statusOf(sent: ClientRequest): Promise<number | undefined> {
  const [reply] = (await once(sent, "response")) as [IncomingMessage];
  await text(reply);
  return reply.statusCode;
}

const json = { "content-type": "application/json" };
beforeAll(async () => {
  const headers = { ...json, authorization: "Bearer innocent" };
  const reply = await fetch(`${server.url}/v1/vector_stores`, {
    method: "POST",
    headers,
    body: '{"id":"s"}',
  });
  expect(reply.status).toBe(200);
});

/** The same key, written otherwise. */
const greedy = ["Bearer greedy", "bearer greedy", "BEARER  greedy", "Bearer greedy "];

test("half-open uploads of one key, from many addresses, leave slots to other keys", async () => {
  const upload = (authorization: string, localAddress: string) =>
    begin({
      authorization,
      localAddress,
      path: "/s/embeddings/ingest",
      headers: { "content-type": "application/x-ndjson" },
    });
  for (let open = 0; open < 6; open++) upload(greedy[open % 4] as string, `127.0.0.${2 + open}`);
  const row = '{"content":"x","embedding":[1]}';
  await expect.poll(async () => statusOf(upload("Bearer greedy", "127.0.0.1").end(row))).toBe(429);
  expect(await statusOf(upload("Bearer innocent", "127.0.0.1").end(row))).toBe(200);
});

test("bodies of one key leave memory to those of others", async () => {
  const bytes = 1.5 * MIB;
  const insert = (authorization: string) =>
    begin({
      authorization,
      path: "/s/embeddings/batch",
      headers: { ...json, "content-length": bytes },
    });
  insert("Bearer greedy").write("{");
  const refused = insert("Bearer greedy");
  const body = JSON.stringify({ embeddings: [{ content: "a", embedding: [1] }] }).padEnd(bytes);
  expect(await statusOf(insert("Bearer innocent").end(body))).toBe(200);
  expect(await statusOf(refused)).toBe(429);
});

test("calls of one key that wait for the database leave places to those of others", async () => {
  const { pool } = server.database;
  const held = await Promise.all(Array.from({ length: pool.options.max }, () => pool.connect()));
  let answered = 0;
  const get = (authorization: string) => begin({ authorization, method: "GET", path: "/s" }).end();
  const statuses = Array.from({ length: 25 * pool.options.max + 10 }, async (_, call) => {
    const status = await statusOf(get(greedy[call % 4] as string));
    answered++;
    return status;
  });
  await expect.poll(() => answered).toBe(10);
  // The service's own work, such as the writing of usage, may wait for a connection too.
  await expect.poll(() => pool.waitingCount).toBeGreaterThanOrEqual(25 * pool.options.max);
  const waiting = pool.waitingCount;
  const innocent = statusOf(get("Bearer innocent"));
  await expect.poll(() => pool.waitingCount).toBeGreaterThan(waiting);
  for (const client of held) client.release();
  expect(await innocent).toBe(200);
  const all = await Promise.all(statuses);
  expect(all.filter((status) => status === 429)).toHaveLength(10);
  expect(all.filter((status) => status === 200)).toHaveLength(25 * pool.options.max);
});
