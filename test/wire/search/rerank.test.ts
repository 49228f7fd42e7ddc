import { OpenAI } from "openai";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { scored, startRerankServer } from "../../support/servers/rerank-server.ts";
import { send } from "../../support/clients/http.ts";
import type { Reply } from "../../support/clients/client.ts";
import { startServer } from "../../support/servers/server.ts";

const provider = await startRerankServer();
const { answer } = provider;
const server = await startServer({
  rerank: { baseUrl: provider.url, apiKey: "secret", models: ["first", "second"], timeoutMs: 1_000 },
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await provider[Symbol.asyncDispose]();
});

async function call(path: string, body: object): Promise<{ status: number; body: Reply }> {
  const { status, text } = await send(`${server.url}/v1/vector_stores${path}`, "POST", JSON.stringify(body), {
    "content-type": "application/json",
  });
  return { status, body: JSON.parse(text) };
}

await call("", { id: "s" });
// The vectors rank them in the order of their numbers.
const rows = Array.from({ length: 100 }, (_, index) => ({
  id: `row${index}`,
  content: `text ${index}${index === 15 ? " with the answer" : ""}`,
  embedding: [1, index / 100],
}));
await call("/s/embeddings/batch", { embeddings: rows });

/** A hybrid search, so that a vector and a text are there. */
const search = {
  query: "the answer",
  embedding: [1, 0],
  max_num_results: 3,
  ranking_options: { hybrid_search: { embedding_weight: 1, text_weight: 0 } },
};

function ranked(options: object) {
  return call("/s/search", { ...search, ranking_options: { ...search.ranking_options, ...options } });
}

beforeEach(() => {
  provider.answer = answer;
  provider.requests.length = 0;
});

describe("a search by text", () => {
  test("is ranked anew by the first model, out of more candidates, with its scores", async () => {
    const { body } = await call("/s/search", search);
    expect(body.data[0]).toMatchObject({ id: "row15", score: 1 });
    expect(body.data).toHaveLength(3);
    expect(body.statistics).toMatchObject({ ranker: "first", rerank_failed: false, complete: true });
    const stages = Object.fromEntries(
      body.statistics.stages.map((stage: { name: string }) => [stage.name, stage]),
    );
    expect(stages).toMatchObject({ search: { count: 1 }, rerank: { count: 20 } });
    expect(stages["rerank"].duration_ms).toBeGreaterThan(0);
    const [request] = provider.requests;
    expect(request).toMatchObject({
      path: "/v1/rerank",
      headers: { authorization: "Bearer secret" },
      body: { model: "first", query: "the answer", top_n: 20 },
    });
    expect(request?.body.documents).toHaveLength(20);
  });

  test("counts four candidates for a result, 200 at most", async () => {
    await call("/s/search", { ...search, max_num_results: 10 });
    await call("/s/search", { ...search, max_num_results: 50 });
    expect(provider.requests.map(({ body }) => body.documents.length)).toEqual([40, 100]);
  });

  test("with groups by file ranks 200 candidates at most, and groups them by the new scores", async () => {
    const grouped = { ...search, group_by: "file", group_size: 3, max_num_results: 50 };
    const { body } = await call("/s/search", grouped);
    expect(body.data[0]).toMatchObject({ id: "row15", score: 1 });
    expect(body.data).toHaveLength(50);
    expect(provider.requests[0]?.body.documents).toHaveLength(66);
    const refused = await call("/s/search", { ...grouped, group_size: 5 });
    expect(refused).toMatchObject({ status: 400, body: { error: { param: "limit" } } });
  });

  test.each([
    ["auto", "first"],
    ["default-2024-11-15", "first"],
    ["second", "second"],
  ])("with the ranker %s is ranked by %s", async (ranker, model) => {
    const { body } = await ranked({ ranker });
    expect(body.statistics.ranker).toBe(model);
    expect(provider.requests.map((request) => request.body.model)).toEqual([model]);
  });

  test("with the ranker none keeps its first order", async () => {
    const { body } = await ranked({ ranker: "none" });
    expect(body.data.map(({ id }: { id: string }) => id)).toEqual(["row0", "row1", "row2"]);
    expect(body.statistics.ranker).toBeNull();
    expect(provider.requests).toEqual([]);
  });

  test("refuses a model that is not set", async () => {
    const { status, body } = await ranked({ ranker: "third" });
    expect(status).toBe(400);
    expect(body.error).toMatchObject({ param: "ranking_options.ranker" });
    expect(body.error.message).toContain("'first', 'second'");
  });

  test("applies the threshold to the new scores", async () => {
    const { body } = await ranked({ score_threshold: 0.9 });
    expect(body.data.map(({ id }: { id: string }) => id)).toEqual(["row15"]);
  });

  test("turns logits into scores of 0 to 1", async () => {
    provider.answer = ({ documents }) => scored(documents.map((_, index) => (index === 7 ? 3 : -2)));
    const { body } = await call("/s/search", search);
    expect(body.data[0].id).toBe("row7");
    expect(body.data[0].score).toBeCloseTo(1 / (1 + Math.exp(-3)), 6);
    expect(body.data[1].score).toBeCloseTo(1 / (1 + Math.exp(2)), 6);
  });

  test("by OpenAI's client works the same", async () => {
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", maxRetries: 0 });
    const page = await client.vectorStores.search("s", search as never);
    expect(page.data[0]?.content[0]?.text).toBe("text 15 with the answer");
  });
});

test("a search by a vector alone is not ranked anew, and cannot name a model", async () => {
  const { body } = await call("/s/search", { embedding: [1, 0] });
  expect(body.statistics.ranker).toBeNull();
  const named = await call("/s/search", { embedding: [1, 0], ranking_options: { ranker: "first" } });
  expect(named.status).toBe(400);
});

test("each search of a batch is ranked anew", async () => {
  const { body } = await call("/s/search/batch", { searches: [search, { embedding: [1, 0] }, search] });
  expect(body.data.map((reply: Reply) => reply.data[0].id)).toEqual(["row15", "row0", "row15"]);
  expect(provider.requests).toHaveLength(2);
});

describe("when the model fails, the first order stays, and the reply says so", () => {
  test.each([
    ["an error", { status: 500, body: { error: "x" } }],
    ["a missing score", scored([1, 2])],
    [
      "a text that is not there",
      {
        body: {
          results: Array.from({ length: 20 }, (_, index) => ({ index: index + 1, relevance_score: 1 })),
        },
      },
    ],
    ["no results", { body: {} }],
    ["no answer at all", undefined],
  ])("with %s", async (_, reply) => {
    provider.answer = () => reply;
    const { status, body } = await call("/s/search", search);
    expect(status).toBe(200);
    expect(body.data.map(({ id }: { id: string }) => id)).toEqual(["row0", "row1", "row2"]);
    expect(body.statistics).toMatchObject({ rerank_failed: true });
    expect(body.statistics.ranker).toBeNull();
  });
});

test("a search of several stores is ranked anew once, over what they have together", async () => {
  await call("", { id: "t" });
  await call("/t/embeddings/batch", {
    embeddings: [{ id: "far", content: "the answer", embedding: [1, 5] }],
  });
  const { text } = await send(
    `${server.url}/v1/search`,
    "POST",
    JSON.stringify({ ...search, vector_store_ids: ["s", "t"] }),
    { "content-type": "application/json" },
  );
  const body: Reply = JSON.parse(text);
  expect(provider.requests).toHaveLength(1);
  expect(provider.requests[0]?.body.documents).toHaveLength(20);
  expect(
    body.data
      .map(({ id }: { id: string }) => id)
      .slice(0, 2)
      .toSorted(),
  ).toEqual(["far", "row15"]);
  expect(body).toMatchObject({ merged_by: "score", statistics: { ranker: "first" } });
});
