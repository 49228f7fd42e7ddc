import { afterAll, beforeAll, expect, test } from "vitest";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer({ apiKeys: ["greedy", "innocent"] });
afterAll(() => server[Symbol.asyncDispose]());

async function send(key: string, path: string, body: object): Promise<Response> {
  return fetch(`${server.url}/v1/vector_stores${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", authorization: `Bearer ${key}` },
    body: JSON.stringify(body),
  });
}

const WORDS = ["harbour", "lantern", "meadow", "compass", "orchard", "granite"];

beforeAll(async () => {
  await send("innocent", "", { id: "small" });
  const embeddings = Array.from({ length: 60 }, (_, row) => ({
    content: Array.from({ length: 40 }, (_unused, word) => WORDS[(row * 7 + word) % WORDS.length]).join(" "),
  }));
  expect((await send("innocent", "/small/embeddings/batch", { embeddings })).status).toBe(200);
});

test("ten batches of a hundred hybrid searches delay nobody else by more than a second", async () => {
  const search = {
    query: WORDS.join(" "),
    ranking_options: { hybrid_search: { embedding_weight: 1, text_weight: 1 } },
  };
  const searches = Array.from({ length: 100 }, () => search);
  let isOver = false;
  const attack = Promise.all(
    Array.from(
      { length: 10 },
      async () => (await send("greedy", "/small/search/batch", { searches })).status,
    ),
  ).finally(() => (isOver = true));
  const latencies: number[] = [];
  const statuses = new Set<number>();
  while (!isOver) {
    const startedAt = performance.now();
    statuses.add((await send("innocent", "/small/search", { query: "lantern" })).status);
    const content = { content: `a note on ${WORDS[latencies.length % WORDS.length]}` };
    statuses.add((await send("innocent", "/small/embeddings", content)).status);
    latencies.push(performance.now() - startedAt);
  }
  expect(await attack).toEqual(Array.from({ length: 10 }, () => 200));
  expect([...statuses]).toEqual([200]);
  // A search and an insert each, as a median: a busy machine may pause for longer than a second.
  const median = latencies.toSorted((a, b) => a - b)[Math.floor(latencies.length / 2)] as number;
  expect(median).toBeLessThan(1_000);
  // Fair turns, not luck: first come, first served let 16 such rounds through, taking turns 180.
  expect(latencies.length).toBeGreaterThan(40);
});
