import { afterAll, beforeAll, expect, test } from "vitest";
import { jsonClient, type Json } from "../../support/clients/json.ts";
import { startServer } from "../../support/servers/server.ts";

const MIB = 1_048_576;

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());
const send = jsonClient(server.url);
const url = "/v1/vector_stores/large";

// In JSON each character of these texts takes six.
const content = "\u0001".repeat(MIB);
const metadata = { note: "x".repeat(60_000) };
const embeddings = ["a", "b"].map((id) => ({ id, content, metadata, embedding: [1, 0] }));

beforeAll(async () => {
  await send("POST", "/v1/vector_stores", { id: "large" });
  expect((await send("POST", `${url}/embeddings/batch`, { embeddings })).status).toBe(200);
});

test("a reply that is written in turns is what it would be at once", async () => {
  const { status, json } = await send("POST", `${url}/search/batch`, {
    searches: [
      { embedding: [1, 0] },
      { embedding: [1, 0], max_num_results: 1 },
      { embedding: [1, 0], filters: { type: "eq", key: "note", value: "" } },
    ],
  });
  expect(status).toBe(200);
  const found = (json["data"] as { data: Json[] }[]).map(({ data }) => data.map(({ id }) => id));
  expect(found).toEqual([["a", "b"], ["a"], []]);
  const one = await send("POST", `${url}/search`, { embedding: [1, 0] });
  expect(one.json).toMatchObject({ object: "vector_store.search_results.page", has_more: false });
  expect(one.json["data"]).toMatchObject(
    embeddings.map(({ id }) => ({
      id,
      content: [{ type: "text", text: content }],
      metadata,
      attributes: metadata,
    })),
  );
});

test("a reply that is more than one string can hold arrives", async () => {
  const searches = Array.from({ length: 45 }, () => ({ embedding: [1, 0] }));
  const body = JSON.stringify({ searches });
  const headers = { "content-type": "application/json" };
  const reply = await fetch(`${server.url}${url}/search/batch`, { method: "POST", headers, body });
  expect(reply.status).toBe(200);
  let bytes = 0;
  for await (const chunk of reply.body as ReadableStream<Uint8Array>) bytes += chunk.length;
  expect(bytes).toBeGreaterThan(90 * 6 * MIB);
});

test("a reply that is larger than allowed is refused, by its texts and its metadata", async () => {
  const searches = Array.from({ length: 60 }, () => ({ embedding: [1, 0] }));
  const { status, json } = await send("POST", `${url}/search/batch`, { searches });
  expect(status).toBe(413);
  expect(json["error"]).toMatchObject({ code: "request_too_large" });
});
