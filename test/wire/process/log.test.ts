import OpenAI from "openai";
import { expect, onTestFinished, test } from "vitest";
import { Scope } from "../../../gen/pgquiver/v1/options_pb.ts";
import { NOBODY } from "../../../src/api/principal.ts";
import { createLogger } from "../../../src/log/logger.ts";
import { startWorker } from "../../../src/background.ts";
import { createScopeLog } from "../../../src/wire/caller/scope-refusals.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { uploadText } from "../../support/stores/files.ts";
import { TEST_INDEXES } from "../../support/stores/index-store.ts";
import { makeTestKey } from "../../support/stores/keys.ts";
import { startServer } from "../../support/servers/server.ts";

/** A log whose lines can be waited for. */
function recordLog() {
  const lines: Record<string, unknown>[] = [];
  let arrived = Promise.withResolvers<void>();
  const log = createLogger(
    { level: "info", format: "json" },
    {
      write(line) {
        lines.push({ ...(JSON.parse(line) as object), length: line.length });
        arrived.resolve();
      },
    },
  );
  async function find(message: string, step?: string): Promise<Record<string, unknown>> {
    for (;;) {
      const found = lines.find((line) => line["msg"] === message && line["step"] === step);
      if (found !== undefined) return found;
      arrived = Promise.withResolvers<void>();
      await arrived.promise;
    }
  }
  return { log, find, lines };
}

test("a warning shows message, code, stack and cause of its error, and not the descriptors of its details", async () => {
  const { log, find } = recordLog();
  const database = await openTestDatabase();
  const server = await startServer({ database, log });
  onTestFinished(() => server.stop(0));
  await database.close();
  const { err, length } = await find("Cannot look for files to process");
  expect(err).toEqual({
    type: "ConnectError",
    message: "[unavailable] The database cannot be reached.",
    code: 14,
    stack: expect.stringContaining("The database cannot be reached."),
    cause: {
      type: "Error",
      message: "Cannot use a pool after calling end on the pool",
      stack: expect.stringContaining("Cannot use a pool"),
    },
  });
  expect(length).toBeLessThan(2_000);
});

test("the log has a line when a file batch has ended, with its counts and seconds", async () => {
  const { log, find, lines } = recordLog();
  await using server = await startServer({ log });
  const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "any", maxRetries: 0 });
  const { id: storeId } = await openai.vectorStores.create({});
  const fileIds = [
    await uploadText(openai, "Elephants eat bananas."),
    await uploadText(openai, "%PDF-1.7\n\0\0\0", "broken.pdf"),
  ];
  const batch = await openai.vectorStores.fileBatches.create(storeId, { file_ids: fileIds });
  const line = await find("file batch ended");
  expect(line).toMatchObject({
    level: 30,
    batchId: batch.id,
    vectorStoreId: storeId,
    completed: 1,
    failed: 1,
    cancelled: 0,
    seconds: expect.any(Number),
  });
  expect(lines.findIndex(({ msg }) => msg === "file failed")).toBeLessThan(lines.indexOf(line));
  expect(
    (await openai.vectorStores.fileBatches.retrieve(batch.id, { vector_store_id: storeId })).status,
  ).toBe("completed");
});

test("the line of a call names the key that made it by an id, and never the key", async () => {
  const { log, find } = recordLog();
  const keys = ["sk-of-the-first-team", "sk-of-the-second-team"];
  await using server = await startServer({ apiKeys: keys, log });
  const headers = { authorization: `Bearer ${keys[1]}` };
  expect((await fetch(`${server.url}/v1/vector_stores`, { headers })).status).toBe(200);
  const line = await find("ok");
  expect(line).toMatchObject({ project: "default", key: "env_2" });
  expect(JSON.stringify(line)).not.toContain("team");
});

test("a call that is refused for its key's scope is logged once in a while, with key, call and scope", async () => {
  const { log, find, lines } = recordLog();
  const database = await openTestDatabase();
  const key = await makeTestKey(database, "default", ["search"]);
  await using server = await startServer({ database, log });
  const headers = { authorization: `Bearer ${key}` };
  for (let time = 0; time < 3; time++)
    expect((await fetch(`${server.url}/v1/vector_stores/secret/files`, { headers })).status).toBe(403);
  const line = await find("A key lacks the scope of a call");
  expect(line).toMatchObject({
    project: "default",
    key: expect.stringMatching(/^key_/),
    call: "GET /v1/vector_stores/:vector_store_id/files",
    scope: "files.read",
  });
  expect(JSON.stringify(line)).not.toContain(key);
  expect(lines.filter(({ msg }) => msg === line["msg"])).toHaveLength(1);
  await server.stop(0);
  await database.close();
});

test("the refusals between two lines of a key are counted", () => {
  const { log, lines } = recordLog();
  let nowMs = 0;
  const note = createScopeLog(log, () => nowMs);
  const caller = { ...NOBODY, project: "p", keyId: "k" };
  for (let time = 0; time < 5; time++) note(caller, Scope.SEARCH, "x");
  note({ ...caller, keyId: "another" }, Scope.SEARCH, "x");
  nowMs = 10_000;
  note(caller, Scope.INGEST, "y");
  expect(lines.map(({ key, scope, unlogged }) => [key, scope, unlogged])).toEqual([
    ["k", "search", undefined],
    ["another", "search", undefined],
    ["k", "ingest", 4],
  ]);
});

test("each step of an index has a line when it begins, and one with its duration", async () => {
  const { log, find, lines } = recordLog();
  const database = await openTestDatabase();
  await using server = await startServer({ database, log });
  const worker = startWorker(database, { ...TEST_INDEXES, isWorking: true }, 20, log);
  onTestFinished(worker.stop);
  const send = (path: string, body: object) =>
    fetch(`${server.url}/v1/vector_stores${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  await send("", { id: "indexed" });
  await send("/indexed/embeddings", { content: "a", embedding: [1, 2] });
  await send("/indexed/index", { policy: "always" });
  const { durationMs } = await find("index step done", "build");
  expect(durationMs).toBeGreaterThanOrEqual(0);
  const steps = lines.filter(({ vectorStoreId, step }) => vectorStoreId === "indexed" && step === "build");
  expect(steps.map(({ msg }) => msg)).toEqual(["index step begins", "index step done"]);
});
