import { afterAll, describe, expect, onTestFinished, test } from "vitest";
import { promoteStore } from "../../src/indexes/worker.ts";
import { withFormer } from "../../src/models/embedder.ts";
import { openTestDatabase } from "../support/databases/database.ts";
import { embedderAt } from "../support/servers/embedder.ts";
import { startEmbeddingServer, vectorOf, type EmbeddingServer } from "../support/servers/embedding-server.ts";
import {
  allEmbeddings,
  countByTable,
  findIndex,
  findLeftovers,
  setPolicy,
  startTestWorker,
  TEST_INDEXES,
} from "../support/stores/index-store.ts";
import { jsonClient, type Json, type Send } from "../support/clients/json.ts";
import { startServer, type TestServer } from "../support/servers/server.ts";

/** Stores of the model "old", of 8 dimensions, are embedded with "new", of 16, while they are used. */
const [OLD, NEW] = [8, 16];

const database = await openTestDatabase();
afterAll(() => database.close());
const { pool } = database;

/** A service that has both models, each at a provider of its own. */
interface Setting extends AsyncDisposable {
  server: TestServer;
  send: Send;
}

const old = await startEmbeddingServer({ dimensions: OLD });
afterAll(() => old.stop());

async function startProvider(): Promise<EmbeddingServer> {
  const provider = await startEmbeddingServer({ dimensions: NEW });
  onTestFinished(() => provider.stop());
  return provider;
}

async function start(provider: EmbeddingServer): Promise<Setting> {
  const embedder = withFormer(
    embedderAt(provider.url, { model: "new", dimensions: NEW, batchTextsMax: 256 }),
    embedderAt(old.url, { model: "old", dimensions: OLD, batchTextsMax: 256 }),
  );
  const server = await startServer({ database, embedder, indexes: { isWorking: true }, indexPollMs: 20 });
  return {
    server,
    send: jsonClient(server.url),
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

const textOf = (n: number) => `subject${n} of chapter${n % 7}`;

let stores = 0;
/** Makes a store of the old model, with rows `e0`, `e1`, ..., and returns its id. */
async function makeStore(rows: number): Promise<string> {
  const id = `store-${++stores}`;
  await using before = await startServer({
    database,
    embedder: embedderAt(old.url, { model: "old", dimensions: OLD, batchTextsMax: 256 }),
  });
  const send = jsonClient(before.url);
  expect((await send("POST", "/v1/vector_stores", { id })).status).toBe(200);
  const embeddings = Array.from({ length: rows }, (_, n) => ({
    id: `e${n}`,
    content: textOf(n),
    metadata: { n },
  }));
  const { status } = await send("POST", `/v1/vector_stores/${id}/embeddings/batch`, { embeddings });
  expect(status).toBe(200);
  return id;
}

const pathOf = (id: string) => `/v1/vector_stores/${id}/reembedding`;

async function untilState(send: Send, id: string, expected: Json): Promise<Json> {
  let state: Json = {};
  await expect
    .poll(async () => (state = (await send("GET", pathOf(id))).json), { timeout: 60_000, interval: 50 })
    .toMatchObject(expected);
  return state;
}

/** Every row of a store that SQL over all stores sees, by id. */
async function readRows(id: string) {
  const { rows } = await pool.query<{ id: string; content: string; n: number | null; vector: number[] }>(
    `select id, content, (metadata ->> 'n')::int as n, embedding as vector from ${allEmbeddings(database)} where vector_store_id = $1 order by id`,
    [id],
  );
  return rows;
}

/** Checks that a store has exactly the vectors of the new model, once each, and that nothing is left of the old ones. */
async function expectNew(send: Send, id: string, rows: number): Promise<void> {
  const found = await readRows(id);
  expect(found).toHaveLength(rows);
  expect(new Set(found.map((row) => row.id)).size).toBe(rows);
  for (const { content, vector } of found) expect(Float32Array.from(vector)).toEqual(vectorOf(content, NEW));
  expect((await send("GET", `/v1/vector_stores/${id}`)).json).toMatchObject({
    dimensions: NEW,
    embedding_model: "new",
    embedding_count: rows,
  });
  const { own_table: table } = await findIndex(database, id);
  expect(await countByTable(database, id)).toEqual({ [String(table)]: rows });
}

/** The own tables that exist without a store that has them; waits for the index worker, which drops them. */
async function expectNoLeftovers(): Promise<void> {
  await expect
    .poll(
      async () => {
        const { tables } = await findLeftovers(database);
        const { rows } = await pool.query<{ name: string }>(
          "select own_table as name from vector_stores where own_table is not null",
        );
        return tables.filter((table) => !rows.some(({ name }) => name === table));
      },
      { timeout: 30_000 },
    )
    .toEqual([]);
}

/** Sends a request again while a concurrent change interferes, as clients do. */
async function insist(send: Send, ...request: Parameters<Send>): Promise<Json> {
  for (;;) {
    const { status, json } = await send(...request);
    if (status === 503) continue;
    expect(status, JSON.stringify(json)).toBe(200);
    return json;
  }
}

// A store that has its table on a worker of a cluster is refused: test/citus/own-tables.test.ts.
const places =
  database.citus === undefined ? ["the shared table", "a table of its own"] : ["the shared table"];

describe.each(places)("a store in %s", (place) => {
  test("comes to another model while it is searched and written", async () => {
    const provider = await startProvider();
    const id = await makeStore(600);
    const path = `/v1/vector_stores/${id}`;
    if (place === "a table of its own") await promoteStore(database, id, TEST_INDEXES);
    await using setting = await start(provider);
    const { send } = setting;
    expect((await send("GET", pathOf(id))).status).toBe(404);
    provider.always({ delayMs: 20 });

    let isDone = false;
    let searches = 0;
    const search = async () => {
      for (let n = 0; !isDone; n = (n + 7) % 600) {
        // These rows are neither changed nor deleted below.
        const asked = n % 10 === 0 ? n + 1 : n;
        const { data } = await insist(send, "POST", `${path}/search`, {
          query: textOf(asked),
          max_num_results: 1,
        });
        expect(data).toMatchObject([{ content: [{ text: textOf(asked) }], score: expect.closeTo(1, 5) }]);
        searches++;
      }
    };
    const write = async () => {
      for (let n = 0; n < 60; n++) {
        const row = `${path}/embeddings/e${n * 10}`;
        if (n % 3 === 0) await insist(send, "POST", row, { content: `changed${n} text` });
        else if (n % 3 === 1) await insist(send, "POST", row, { metadata: { n: -n } });
        else await insist(send, "DELETE", row);
        await insist(send, "POST", `${path}/embeddings`, { id: `new${n}`, content: `added${n} text` });
      }
    };
    const used = [search(), search(), write()];
    expect(await send("POST", pathOf(id), {})).toMatchObject({
      status: 200,
      json: { status: "in_progress", model: "new", former_model: "old", former_dimensions: OLD, rows: 600 },
    });
    const report = await untilState(send, id, { status: "completed" });
    await used[2];
    isDone = true;
    await Promise.all(used);
    expect(searches).toBeGreaterThan(0);
    expect(report).toMatchObject({
      dimensions: NEW,
      comparison: { queries: 20, results: 10, overlap: expect.any(Number) },
      phase: null,
      last_error: null,
    });
    await expectNew(send, id, 600 - 20 + 60);
    const rows = new Map((await readRows(id)).map((row) => [row.id, row]));
    expect(rows.get("e0")?.content).toBe("changed0 text");
    expect(rows.get("e10")).toMatchObject({ content: textOf(10), n: -1 });
    expect(rows.has("e20")).toBe(false);
    await expectNoLeftovers();
    expect(await findIndex(database, id)).toMatchObject({ index_state: "ready", index_precision: "float16" });
    expect(await send("POST", pathOf(id), {})).toMatchObject({
      status: 400,
      json: { error: { code: "model_in_use" } },
    });
  }, 120_000);
});

test.runIf(database.kind === "postgres" && database.citus === undefined)(
  "SQL over the shared table sees each row once while the old rows are removed, by whichever worker",
  async () => {
    const provider = await startProvider();
    const id = await makeStore(50);
    await promoteStore(database, id, TEST_INDEXES);
    const { own_table: former } = await findIndex(database, id);
    const client = await pool.connect();
    {
      await using setting = await start(provider);
      await client.query("begin");
      // A reader of the former table keeps it from being dropped.
      await client.query(`lock table only "${former}" in access share mode`);
      await setting.send("POST", pathOf(id), {});
      await untilState(setting.send, id, { status: "in_progress", phase: "cleaning" });
    }
    await client.query("commit");
    client.release();
    expect(await readRows(id)).toHaveLength(50);
    // A change of the index's settings has the index worker do the rest before the process that works on re-embeddings.
    startTestWorker(database);
    await setPolicy(database, id, "always");
    const settled = "select 1 from pgquiver_indexes where vector_store_id = $1 and phase = 'settled'";
    await expect.poll(async () => (await pool.query(settled, [id])).rowCount, { timeout: 30_000 }).toBe(1);
    expect(await readRows(id)).toHaveLength(50);
    await using setting = await start(provider);
    await untilState(setting.send, id, { status: "completed" });
    await expectNew(setting.send, id, 50);
    await expectNoLeftovers();
  },
  60_000,
);

test("a process goes on with the page at which another one was stopped", async () => {
  const provider = await startProvider();
  const id = await makeStore(1_500);
  const gate = Promise.withResolvers<void>();
  // A page of 1,024 rows is embedded by four requests, the second one of 476 by two.
  provider.next({}, 4);
  provider.next({ until: gate.promise }, 2);
  {
    await using first = await start(provider);
    await first.send("POST", pathOf(id), {});
    await provider.received(6);
    expect((await first.send("GET", pathOf(id))).json).toMatchObject({
      phase: "copying",
      rows: 1_500,
      rows_embedded: 1_024,
    });
  }
  gate.resolve();
  await using second = await start(provider);
  await untilState(second.send, id, { status: "completed", rows_embedded: 1_500 });
  await expectNew(second.send, id, 1_500);
  const texts = provider.requests.map(({ body }) => body.input);
  const [done, again] = [texts.slice(0, 4).flat(), texts.slice(6).flat()];
  expect(again).toHaveLength(1_500 - 1_024);
  expect(again.toSorted()).toEqual(texts.slice(4, 6).flat().toSorted());
  expect(again.filter((text) => done.includes(text))).toEqual([]);
  await expectNoLeftovers();
}, 60_000);

test("a cancelled re-embedding leaves the store as it was, and can be requested again", async () => {
  const provider = await startProvider();
  const id = await makeStore(20);
  const before = await readRows(id);
  await using setting = await start(provider);
  const { send } = setting;
  const gate = Promise.withResolvers<void>();
  provider.next({ until: gate.promise });
  await send("POST", pathOf(id), {});
  await provider.received(1);
  expect(await send("POST", `${pathOf(id)}/cancel`, {})).toMatchObject({
    status: 200,
    json: { status: "cancelled", phase: null, completed_at: expect.any(Number) },
  });
  expect(await provider.requests[0]?.abandoned).toBe(true);
  gate.resolve();
  await expectNoLeftovers();
  expect(await readRows(id)).toEqual(before);
  expect((await send("GET", `/v1/vector_stores/${id}`)).json).toMatchObject({ embedding_model: "old" });
  await send("POST", pathOf(id), {});
  await untilState(send, id, { status: "completed" });
  await expectNew(send, id, 20);
}, 60_000);

test("a store that is deleted meanwhile leaves nothing", async () => {
  const provider = await startProvider();
  const id = await makeStore(20);
  await using setting = await start(provider);
  const gate = Promise.withResolvers<void>();
  provider.next({ until: gate.promise });
  await setting.send("POST", pathOf(id), {});
  await provider.received(1);
  expect((await setting.send("DELETE", `/v1/vector_stores/${id}`)).status).toBe(200);
  gate.resolve();
  await expectNoLeftovers();
  expect(
    (await pool.query("select from pgquiver_reembeddings where vector_store_id = $1", [id])).rowCount,
  ).toBe(0);
  expect((await setting.send("GET", pathOf(id))).status).toBe(404);
}, 60_000);

test("a provider that is away is waited for, and one that refuses the texts ends the job", async () => {
  const provider = await startProvider();
  const id = await makeStore(20);
  await using setting = await start(provider);
  const { send } = setting;
  provider.next({ status: 500, body: {} });
  await send("POST", pathOf(id), {});
  await untilState(send, id, {
    status: "in_progress",
    last_error: expect.stringContaining("HTTP status 500"),
  });
  await untilState(send, id, { status: "completed", last_error: null });
  await expectNew(send, id, 20);

  const other = await makeStore(20);
  provider.next({ status: 400, body: { error: { message: "Too long." } } });
  await send("POST", pathOf(other), {});
  await untilState(send, other, { status: "failed", last_error: expect.stringContaining("Too long.") });
  expect((await send("GET", `/v1/vector_stores/${other}`)).json).toMatchObject({ embedding_model: "old" });
  await expectNoLeftovers();
}, 60_000);

test("a file in a store, and an empty store, come to the other model too", async () => {
  const provider = await startProvider();
  const id = await makeStore(1);
  await using setting = await start(provider);
  const { send, server } = setting;
  const data = new FormData();
  data.set("purpose", "assistants");
  data.set("file", new File(["The kitchen serves soup until ten."], "menu.txt"));
  const uploaded = await fetch(`${server.url}/v1/files`, { method: "POST", body: data });
  const { id: fileId } = (await uploaded.json()) as { id: string };
  const path = `/v1/vector_stores/${id}/files`;
  await send("POST", path, { file_id: fileId });
  const statusOf = async () => (await send("GET", `${path}/${fileId}`)).json["status"];
  await expect.poll(statusOf, { timeout: 30_000 }).toBe("completed");
  await send("POST", pathOf(id), {});
  await untilState(send, id, { status: "completed" });
  await expectNew(send, id, 2);
  expect((await send("GET", `${path}/${fileId}/content`)).json["data"]).toMatchObject([
    { text: "The kitchen serves soup until ten." },
  ]);
  expect((await send("DELETE", `${path}/${fileId}`)).status).toBe(200);
  expect(await readRows(id)).toHaveLength(1);

  const empty = await makeStore(1);
  await send("DELETE", `/v1/vector_stores/${empty}/embeddings/e0`);
  await send("POST", pathOf(empty), {});
  await untilState(send, empty, { status: "completed", comparison: null });
  await insist(send, "POST", `/v1/vector_stores/${empty}/embeddings`, { content: "first again" });
  expect((await send("GET", `/v1/vector_stores/${empty}`)).json).toMatchObject({
    embedding_model: "new",
    dimensions: NEW,
  });
}, 60_000);

test("what was embedded by the old model when the store changes is refused with a conflict, or embedded again", async () => {
  const provider = await startProvider();
  const id = await makeStore(5);
  await using setting = await start(provider);
  const { send, server } = setting;
  const path = `/v1/vector_stores/${id}`;
  const gate = Promise.withResolvers<void>();
  const asked = old.requests.length;
  old.next({ until: gate.promise }, 2);
  const row = { id: "late", content: "a late text" };
  const added = send("POST", `${path}/embeddings`, row);
  const data = new FormData();
  data.set("purpose", "assistants");
  data.set("file", new File(["A late file."], "late.txt"));
  const uploaded = await fetch(`${server.url}/v1/files`, { method: "POST", body: data });
  const { id: fileId } = (await uploaded.json()) as { id: string };
  await send("POST", `${path}/files`, { file_id: fileId });
  await old.received(asked + 2);
  await send("POST", pathOf(id), {});
  await untilState(send, id, { status: "completed" });
  gate.resolve();
  const refused = await added;
  expect(refused.status).toBe(503);
  expect(refused.headers.get("retry-after")).toBe("1");
  expect((await send("POST", `${path}/embeddings`, row)).status).toBe(200);
  await expect
    .poll(async () => (await send("GET", `${path}/files/${fileId}`)).json["status"], { timeout: 30_000 })
    .toBe("completed");
  await expectNew(send, id, 7);
}, 60_000);
