import { OpenAI, toFile } from "openai";
import { afterAll, expect, test } from "vitest";
import { openTestDatabase } from "../support/databases/database.ts";
import { embedderAt } from "../support/servers/embedder.ts";
import { startEmbeddingServer } from "../support/servers/embedding-server.ts";
import { startServer } from "../support/servers/server.ts";

const provider = await startEmbeddingServer({ dimensions: 64 });
const database = await openTestDatabase();
const server = await startServer({ database, embedder: embedderAt(provider.url) });
const client = new OpenAI({ apiKey: "any", baseURL: `${server.url}/v1`, maxRetries: 0 });
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await provider.stop();
  await database.close();
});

const DOCUMENTS = {
  "returns.md": "Our return policy allows returns within thirty days of purchase.",
  "shipping.txt": "Shipping is free for orders over fifty dollars.",
  "warranty.json": JSON.stringify({ warranty: "Every bow has a warranty of two years." }),
};

test("a whole program of retrieval runs with one client and one base URL", async () => {
  const [model] = (await client.models.list()).data;
  expect(model?.id).toBe("test-embedding");

  const uploaded = await Promise.all(
    Object.entries(DOCUMENTS).map(async ([name, text]) =>
      client.files.create({ file: await toFile(Buffer.from(text), name), purpose: "assistants" }),
    ),
  );
  const store = await client.vectorStores.create({
    name: "Support",
    expires_after: { anchor: "last_active_at", days: 7 },
  });
  const batch = await client.vectorStores.fileBatches.createAndPoll(
    store.id,
    {
      files: uploaded.map(({ id, filename }) => ({
        file_id: id,
        attributes: { source: filename, year: 2026 },
      })),
    },
    { pollIntervalMs: 20 },
  );
  expect(batch).toMatchObject({ status: "completed", file_counts: { completed: 3, failed: 0, total: 3 } });

  const question = "What return policy allows returns within thirty days of purchase?";
  const found = await client.vectorStores.search(store.id, { query: question, max_num_results: 2 });
  expect(found.data).toHaveLength(2);
  const [best] = found.data;
  expect(best).toMatchObject({
    file_id: uploaded[0]?.id,
    filename: "returns.md",
    attributes: { source: "returns.md", year: 2026 },
    content: [{ type: "text", text: DOCUMENTS["returns.md"] }],
  });

  // The program's own ranking, by vectors from the same URL, comes to the same.
  const texts = [question, ...found.data.map(({ content }) => content.map(({ text }) => text).join("\n"))];
  const { data, usage } = await client.embeddings.create({ model: model?.id ?? "", input: texts });
  expect(usage.total_tokens).toBeGreaterThan(0);
  const [asked, ...answers] = data.map(({ embedding }) => embedding);
  for (const [index, answer] of answers.entries()) {
    const cosine = answer.reduce((sum, value, place) => sum + value * Number(asked?.[place]), 0);
    const length = Math.hypot(...answer) * Math.hypot(...(asked ?? []));
    expect(found.data[index]?.score).toBeCloseTo((1 + cosine / length) / 2, 5);
  }

  const filtered = await client.vectorStores.search(store.id, {
    query: question,
    filters: {
      type: "and",
      filters: [
        { type: "eq", key: "source", value: "shipping.txt" },
        { type: "gte", key: "year", value: 2026 },
      ],
    },
  });
  expect(filtered.data.map(({ filename }) => filename)).toEqual(["shipping.txt"]);

  await client.files.delete(String(uploaded[0]?.id));
  const names: string[] = [];
  for await (const file of client.vectorStores.files.list(store.id, { limit: 1 }))
    names.push((await client.files.retrieve(file.id)).filename);
  expect(names.toSorted()).toEqual(["shipping.txt", "warranty.json"]);
  const after = await client.vectorStores.search(store.id, { query: question });
  expect(after.data.map(({ filename }) => filename)).not.toContain("returns.md");
  expect(await client.vectorStores.retrieve(store.id)).toMatchObject({
    status: "completed",
    file_counts: { completed: 2, total: 2 },
  });

  await client.vectorStores.delete(store.id);
  await expect(client.vectorStores.search(store.id, { query: question })).rejects.toBeInstanceOf(
    OpenAI.NotFoundError,
  );
  expect(await client.files.content(String(uploaded[1]?.id)).then((reply) => reply.text())).toBe(
    DOCUMENTS["shipping.txt"],
  );
});
