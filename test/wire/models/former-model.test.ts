import { expect, onTestFinished, test } from "vitest";
import { withFormer } from "../../../src/models/embedder.ts";
import { createLexicalEmbedder, LEXICAL_MODEL } from "../../../src/models/lexical.ts";
import { createMeaningEmbedder, MEANING_MODEL } from "../../../src/models/meaning.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { embedderAt } from "../../support/servers/embedder.ts";
import { startEmbeddingServer } from "../../support/servers/embedding-server.ts";
import { send } from "../../support/clients/http.ts";
import { jsonClient } from "../../support/clients/json.ts";
import { startServer } from "../../support/servers/server.ts";

const FOOD = "The kitchen serves soup until ten.";
const MONEY = "Refunds are issued if you return the unused item with its receipt.";

test("a store of the lexical embedder goes on beside those of the one that took its place", async () => {
  const database = await openTestDatabase();
  onTestFinished(() => database.close());
  let url = "";
  const call = async (method: string, path: string, body: object) => {
    const answer = await send(`${url}${path}`, method, JSON.stringify(body), {
      "content-type": "application/json",
    });
    expect(answer.status, answer.text).toBe(200);
    return JSON.parse(answer.text);
  };
  const search = async (id: string, query: string) => {
    const { data } = await call("POST", `/v1/vector_stores/${id}/search`, { query });
    return data.map((hit: { content: [{ text: string }] }) => hit.content[0].text);
  };
  const add = (id: string, content: string) =>
    call("POST", `/v1/vector_stores/${id}/embeddings`, { content });

  await using before = await startServer({ database, embedder: createLexicalEmbedder() });
  ({ url } = before);
  await call("POST", "/v1/vector_stores", { id: "old" });
  await add("old", FOOD);

  await using now = await startServer({ database, embedder: createMeaningEmbedder() });
  ({ url } = now);
  await add("old", MONEY);
  expect(await search("old", "refunds")).toEqual([MONEY, FOOD]);
  await call("POST", "/v1/vector_stores", { id: "new" });
  await add("new", FOOD);
  await add("new", MONEY);
  expect(await search("new", "How do I get my money back?")).toEqual([MONEY, FOOD]);
  const { rows } = await database.pool.query("select embedding_model from vector_stores order by id");
  expect(rows.map((row) => row.embedding_model)).toEqual([MEANING_MODEL, LEXICAL_MODEL]);
});

test("after a change of the model, stores of the model before are searched and filled by it", async () => {
  await using provider = await startEmbeddingServer();
  const database = await openTestDatabase();
  onTestFinished(() => database.close());
  const embedder = (model: string, dimensions: number) =>
    embedderAt(provider.url, { model, dimensions, sendDimensions: true });
  const asked = () => provider.requests.splice(0).map(({ body }) => [body.model, body.dimensions]);
  const text = (content: string) => ({ content });
  {
    await using before = await startServer({ database, embedder: embedder("old", 8) });
    const call = jsonClient(before.url);
    await call("POST", "/v1/vector_stores", { id: "old" });
    await call("POST", "/v1/vector_stores/old/embeddings", text(FOOD));
  }
  const both = withFormer(embedder("new", 16), embedder("old", 8));
  await using now = await startServer({ database, embedder: both });
  const call = jsonClient(now.url);
  await call("POST", "/v1/vector_stores", { id: "new" });
  asked();
  for (const [id, expected] of [
    ["old", ["old", 8]],
    ["new", ["new", 16]],
  ] as const) {
    const path = `/v1/vector_stores/${id}`;
    expect((await call("POST", `${path}/embeddings`, text(MONEY))).status).toBe(200);
    expect(
      await call("POST", `${path}/search`, { query: "issued refunds", max_num_results: 1 }),
    ).toMatchObject({
      status: 200,
      json: { data: [{ content: [{ text: MONEY }] }] },
    });
    expect(asked()).toEqual([expected, expected]);
  }
  const file = await fetch(`${now.url}/v1/files`, { method: "POST", body: form("menu.txt", FOOD) });
  const { id: fileId } = (await file.json()) as { id: string };
  await call("POST", "/v1/vector_stores/old/files", { file_id: fileId });
  await expect
    .poll(async () => (await call("GET", `/v1/vector_stores/old/files/${fileId}`)).json["status"])
    .toBe("completed");
  expect(asked()).toEqual([["old", 8]]);
});

test("one model with vectors of two lengths: a store goes on with those that it has", async () => {
  await using provider = await startEmbeddingServer();
  const make = (dimensions: number) =>
    embedderAt(provider.url, { model: "same", dimensions, sendDimensions: true });
  await using server = await startServer({ embedder: withFormer(make(16), make(8)) });
  const call = jsonClient(server.url);
  await server.database.pool.query(
    "insert into vector_stores (id, created_at, dimensions, embedding_model) values ('short', now(), 8, 'same')",
  );
  for (const content of [FOOD, MONEY])
    expect((await call("POST", "/v1/vector_stores/short/embeddings", { content })).status).toBe(200);
  expect(await call("POST", "/v1/vector_stores/short/search", { query: "soup" })).toMatchObject({
    status: 200,
    json: { data: [{ content: [{ text: FOOD }] }, {}] },
  });
});

function form(name: string, content: string): FormData {
  const data = new FormData();
  data.set("purpose", "assistants");
  data.set("file", new File([content], name));
  return data;
}
