import { once } from "node:events";
import { request, type IncomingMessage } from "node:http";
import { json } from "node:stream/consumers";
import { expect, test } from "vitest";
import { startServer } from "../../support/servers/server.ts";

const MIB = 1024 * 1024;

/** Begins an upload of NDJSON and leaves it open. */
function upload(url: string) {
  const call = request(`${url}/v1/vector_stores/s/embeddings/ingest`, { method: "PUT" });
  const answer = once(call, "response").then(async ([reply]: IncomingMessage[]) => ({
    status: reply?.statusCode,
    headers: reply?.headers,
    body: await json(reply as IncomingMessage),
  }));
  call.on("error", () => {});
  return { call, answer };
}

test("refuses an upload beyond those memory allows, and takes one again when another ends", async () => {
  // 8 MiB for each upload.
  await using server = await startServer({ ingest: { memoryBytes: 8 * MIB } });
  const store = await fetch(`${server.url}/v1/vector_stores`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: '{"id": "s"}',
  });
  expect(store.status).toBe(200);

  const first = upload(server.url);
  first.call.write('{"content": "one", "embedding": [1, 2]}\n');
  const refused = {
    status: 429,
    headers: { "retry-after": "1" },
    body: { error: { code: "rate_limit_exceeded" } },
  };
  // Until the first is under way a second one is accepted.
  await expect
    .poll(async () => {
      const other = upload(server.url);
      other.call.end();
      return other.answer;
    })
    .toMatchObject(refused);

  first.call.end('{"content": "two", "embedding": [3, 4]}\n');
  expect(await first.answer).toMatchObject({ status: 200, body: { rows_written: 2 } });
  const next = upload(server.url);
  next.call.end('{"content": "three", "embedding": [5, 6]}\n');
  expect(await next.answer).toMatchObject({ status: 200, body: { rows_written: 1 } });
});
