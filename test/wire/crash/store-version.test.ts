import { afterAll, expect, test } from "vitest";
import { findVersion } from "../../../src/search/version.ts";
import { jsonClient } from "../../support/clients/json.ts";
import { startServer } from "../../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());
const send = jsonClient(server.url);

const { json } = await send("POST", "/v1/vector_stores", { id: "vs" });
const path = `/v1/vector_stores/${String(json["id"])}`;
const readVersion = () => findVersion(server.database.pool, server.database.tables, "vs");

const row = (id: string, more: object = {}) => ({ id, content: id, embedding: [1, 2], ...more });

/** Each in turn; all but the first need what those before have left. */
const writes: [name: string, method: string, path: string, body: unknown][] = [
  ["an embedding added", "POST", `${path}/embeddings`, row("a")],
  ["a batch", "POST", `${path}/embeddings/batch`, { embeddings: [row("b"), row("c")] }],
  ["a bulk ingest", "POST", `${path}/embeddings/ingest`, row("d")],
  [
    "the replacement of a row by one as large",
    "POST",
    `${path}/embeddings/ingest?mode=upsert`,
    row("d", { embedding: [2, 1] }),
  ],
  ["an embedding changed", "POST", `${path}/embeddings/b`, { metadata_merge: { k: 1 } }],
  ["an embedding deleted", "DELETE", `${path}/embeddings/a`, undefined],
  ["embeddings deleted", "POST", `${path}/embeddings/batch_delete`, { embedding_ids: ["c"] }],
  ["a purge", "POST", `${path}/embeddings/purge`, { filters: { type: "ne", key: "k", value: "v" } }],
];

test.each(writes)("%s moves the version of a store", async (_name, method, target, body) => {
  const before = await readVersion();
  const headers = target.includes("/ingest") ? { "content-type": "application/x-ndjson" } : {};
  const reply = await send(method, target, body, headers);
  expect(reply).toMatchObject({ status: 200 });
  expect(await readVersion()).not.toBe(before);
});

test("searches and changes of the store's name leave it", async () => {
  await send("POST", `${path}/embeddings`, row("e"));
  const before = await readVersion();
  await server.database.pool.query("update vector_stores set last_active_at = now() - interval '1 day'");
  await send("POST", `${path}/search`, { embedding: [1, 2] });
  await send("POST", path, { name: "another" });
  expect(await readVersion()).toBe(before);
});

test("a store that is made anew under the same id has another, and one that is gone none", async () => {
  const versions = [];
  for (let turn = 0; turn < 2; turn++) {
    await send("DELETE", path);
    expect(await readVersion()).toBeUndefined();
    await send("POST", "/v1/vector_stores", { id: "vs" });
    await send("POST", `${path}/embeddings`, row("a"));
    versions.push(await readVersion());
  }
  expect(versions[0]).not.toBe(versions[1]);
});
