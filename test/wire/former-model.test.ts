import { expect, onTestFinished, test } from "vitest";
import { createLexicalEmbedder, LEXICAL_MODEL } from "../../src/models/lexical.ts";
import { createMeaningEmbedder, MEANING_MODEL } from "../../src/models/meaning.ts";
import { openTestDatabase } from "../support/database.ts";
import { send } from "../support/http.ts";
import { startServer } from "../support/server.ts";

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
