import { afterAll, expect, test } from "vitest";
import type { Limits } from "../../../src/api/rates/limits.ts";
import { createLexicalEmbedder } from "../../../src/models/lexical.ts";
import type { Embedder } from "../../../src/models/embedder.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { filePart, form, FORM_TYPE, textPart } from "../../support/clients/form.ts";
import { send } from "../../support/clients/http.ts";
import { openIngest } from "../../support/clients/ingest-session.ts";
import { makeTestKey } from "../../support/stores/keys.ts";
import { startServer, type TestServer } from "../../support/servers/server.ts";

/** Limits of projects to the memory of bulk ingest and to the files in work. */
const root = "a-key-of-the-environment";
const database = await openTestDatabase();
afterAll(() => database.close());

async function ask({ url }: TestServer, key: string, verb: string, path: string, body?: object) {
  const reply = await send(`${url}/v1${path}`, verb, body && JSON.stringify(body), {
    authorization: `Bearer ${key}`,
    ...(body && { "content-type": "application/json" }),
  });
  expect(reply.status, reply.text).toBe(200);
  return JSON.parse(reply.text);
}

/** Makes a project with limits and a store `s`, and as many keys for it. */
async function makeTeam(server: TestServer, limits: Limits, keys = 1): Promise<[string, ...string[]]> {
  const { id } = await ask(server, root, "POST", "/organization/projects", { name: "Team", limits });
  const made: string[] = [];
  for (let key = 0; key < keys; key++) made.push(await makeTestKey(database, id));
  await ask(server, made[0] as string, "POST", "/vector_stores", { id: "s" });
  return made as [string, ...string[]];
}

test("a project's streams take no more than its part of the memory for bulk ingest", async () => {
  const mebibyte = 1024 * 1024;
  // Half of it is for streams, of 1 MiB each, and a key has half of what its project has.
  await using server = await startServer({
    database,
    apiKeys: [root],
    ingest: { memoryBytes: 16 * mebibyte },
  });
  const [a, b, c] = (await makeTeam(server, { max_ingest_memory_percent: 25 }, 3)) as [
    string,
    string,
    string,
  ];
  const [other] = await makeTeam(server, {});
  const first = openIngest(server, a, "s");
  await first.opened;
  const second = openIngest(server, b, "s");
  await second.opened;
  const third = openIngest(server, c, "s");
  await expect(third.summary).rejects.toThrow("Too many ingest streams are open");
  const others = openIngest(server, other, "s");
  await others.opened;
  first.send(1, [{ content: "x", embedding: [1, 2] }]);
  first.finish(1);
  expect(await first.summary).toMatchObject({ rowsWritten: 1n });
  const again = openIngest(server, c, "s");
  await again.opened;
  for (const stream of [second, others, again]) stream.finish(0);
  await Promise.all([second.summary, others.summary, again.summary]);
});

test("a project's files take no more workers than its limit, and others go on", async () => {
  const lexical = createLexicalEmbedder(8);
  const release = Promise.withResolvers<void>();
  const embedder: Embedder = {
    ...lexical,
    async embed(texts, signal) {
      if (texts.some((text) => text.includes("slow"))) await release.promise;
      return lexical.embed(texts, signal);
    },
  };
  await using server = await startServer({ database, apiKeys: [root], embedder, files: { workers: 4 } });
  const [limited] = await makeTeam(server, { max_file_workers: 1 });
  const [other] = await makeTeam(server, {});
  const attach = async (key: string, text: string) => {
    const headers = { authorization: `Bearer ${key}`, ...FORM_TYPE };
    const body = form(textPart("purpose", "assistants"), filePart(text));
    const { text: file } = await send(`${server.url}/v1/files`, "POST", body, headers);
    await ask(server, key, "POST", "/vector_stores/s/files", { file_id: JSON.parse(file).id });
  };
  const counts = async (key: string) => (await ask(server, key, "GET", "/vector_stores/s")).file_counts;
  const inWork = async () => {
    const { rowCount } = await database.pool.query(
      `select from ${database.tables.vectorStoreFiles} where claim is not null and vector_store_id like 'proj_%'`,
    );
    return rowCount;
  };
  for (let file = 0; file < 3; file++) await attach(limited, `slow ${file}`);
  await expect.poll(inWork, { timeout: 10_000 }).toBe(1);
  // Workers have looked for files since, and have passed over the two that wait.
  await attach(other, "quick");
  await expect.poll(() => counts(other), { timeout: 10_000 }).toMatchObject({ completed: 1 });
  expect(await inWork()).toBe(1);
  expect(await counts(limited)).toMatchObject({ in_progress: 3, completed: 0 });
  release.resolve();
  await expect.poll(() => counts(limited), { timeout: 10_000 }).toMatchObject({ completed: 3 });
});
