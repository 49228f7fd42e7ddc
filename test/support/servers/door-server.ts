import OpenAI, { toFile } from "openai";
import type { Limits } from "../../../src/api/rates/limits.ts";
import { openTestDatabase } from "../databases/database.ts";
import { send } from "../clients/http.ts";
import { startIdentityProvider } from "./identity-provider.ts";
import { makeProject, makeTestKey } from "../stores/keys.ts";
import { startServer, type TestServerOptions } from "./server.ts";

/** The text of the file in the store `handbook`. */
export const HANDBOOK =
  "Returns are accepted within thirty days of purchase. Send the parcel to the warehouse in Lyon.";

/**
 * A service with three stores of the default project: `handbook` has a file, `faq` two rows, `private` is outside of the
 * lists of `listed` keys; and with one store of another project, `foreign`. All have a text about returns.
 */
export async function startDoorServer(options: TestServerOptions = {}) {
  const provider = await startIdentityProvider();
  const database = await openTestDatabase();
  const server = await startServer({ ...options, database, tokens: provider.settings });
  const other = await makeProject(database);
  const key = await makeTestKey(database, "default");
  const foreignKey = await makeTestKey(database, other);
  const ask = async (method: string, path: string, body?: unknown, bearer = key) => {
    const headers = { authorization: `Bearer ${bearer}`, "content-type": "application/json" };
    const reply = await send(
      `${server.url}${path}`,
      method,
      body === undefined ? undefined : JSON.stringify(body),
      headers,
    );
    return { ...reply, json: JSON.parse(reply.text === "" ? "null" : reply.text) };
  };
  const add = async (id: string, rows: object[], bearer?: string) => {
    await ask("POST", "/v1/vector_stores", { id, name: `The ${id}` }, bearer);
    await ask("POST", `/v1/vector_stores/${id}/embeddings/batch`, { embeddings: rows }, bearer);
  };
  await ask("POST", "/v1/vector_stores", { id: "handbook", name: "The handbook" });
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: key, maxRetries: 0 });
  const uploaded = await client.vectorStores.files.uploadAndPoll(
    "handbook",
    await toFile(Buffer.from(HANDBOOK), "handbook.txt"),
  );
  await add("faq", [
    { id: "e1", content: "How returns work.", metadata: { lang: "en", year: 2024, filename: "faq.md" } },
    {
      id: "e2",
      content: "Wie Rückgaben gehen: returns.",
      metadata: {
        lang: "de",
        url: "https://example.com/de",
        tags: ["owl", "fox"],
        day: "2024-05-01",
        note: "",
      },
    },
  ]);
  await add("private", [{ id: "p1", content: "The secret of returns." }]);
  await add("foreign", [{ id: "f1", content: "The foreign secret of returns." }], foreignKey);
  return {
    ...server,
    key,
    foreignKey,
    fileId: uploaded.id,
    provider,
    ask,
    keyWith: (scopes?: readonly string[], stores?: readonly string[], limits?: Limits) =>
      makeTestKey(database, "default", scopes, stores ?? null, limits ?? null),
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await database.close();
      await provider[Symbol.asyncDispose]();
    },
  };
}
