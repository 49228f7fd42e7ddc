import { setTimeout as delay } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { seededRandom, type Random } from "../../../scripts/crash/random.ts";
import { startIndexWorker } from "../../../src/indexes/worker.ts";
import type { Json, Reply } from "../../support/clients/client.ts";
import { TEST_INDEXES } from "../../support/stores/index-store.ts";
import { restOverHttp1 } from "../../support/clients/rest-client.ts";
import { startServer } from "../../support/servers/server.ts";

/** Which operations are drawn, and how many of them. */
const SEED = Number(process.env["MODEL_SEED"] ?? 1);
const OPERATIONS = Number(process.env["MODEL_OPERATIONS"] ?? 150);

const DIMENSIONS = 8;
const STORES = ["one", "two"];
/** How many of the true nearest an indexed search finds at least, over the whole run. */
const RECALL_MIN = 0.95;

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());
const { database } = server;
const { call } = restOverHttp1.connect(server);

/** What a store should hold. */
type Model = Map<string, { content: string; group: number; embedding: number[] }>;
const models = new Map<string, Model>();

const modelOf = (store: string): Model => models.get(store) ?? new Map();

function drawVector(random: Random): number[] {
  return Array.from({ length: DIMENSIONS }, () => Math.fround(random.next() * 2 - 1));
}

function drawRows(random: Random, fresh: boolean, round: number) {
  return Array.from({ length: random.integer(1, 40) }, (_, index) => ({
    id: fresh ? `r${round}_${index}` : `u${random.integer(0, 300)}`,
    content: `text ${round} ${index}`,
    metadata: { group: random.integer(0, 9) },
    embedding: drawVector(random),
  }));
}

type Rows = ReturnType<typeof drawRows>;

function remember(store: string, rows: Rows): void {
  for (const { id, content, metadata, embedding } of rows)
    modelOf(store).set(id, { content, group: metadata.group, embedding });
}

async function upsert(store: string, rows: Rows): Promise<void> {
  const reply = await fetch(`${server.url}/v1/vector_stores/${store}/embeddings/ingest?mode=upsert`, {
    method: "POST",
    headers: { "content-type": "application/x-ndjson" },
    body: rows.map((row) => JSON.stringify(row)).join("\n"),
  });
  expect([reply.status, await reply.text()]).toEqual([200, expect.stringContaining('"completed"')]);
}

async function create(store: string): Promise<void> {
  await call("VectorStoreService/CreateVectorStore", { id: store, dimensions: DIMENSIONS });
  models.set(store, new Map());
}

function cosine(a: number[], b: number[]): number {
  const dot = (x: number[], y: number[]) => x.reduce((sum, value, index) => sum + value * (y[index] ?? 0), 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

function nearest(store: string, vector: number[], group: number | undefined): string[] {
  return [...modelOf(store)]
    .filter(([, row]) => group === undefined || row.group === group)
    .map(([id, row]) => ({ id, score: cosine(row.embedding, vector) }))
    .toSorted((a, b) => b.score - a.score || (a.id < b.id ? -1 : 1))
    .slice(0, 10)
    .map(({ id }) => id);
}

const recall = { found: 0, wanted: 0 };

/** Searches exactly and as usual: as many results as there are, none that is gone, and by the index most of the nearest. */
async function search(random: Random, store: string): Promise<void> {
  const embedding = drawVector(random);
  const group = random.chance(0.4) ? random.integer(0, 9) : undefined;
  const filters = group === undefined ? {} : { filters: { type: "eq", key: "group", value: group } };
  const wanted = nearest(store, embedding, group);
  const request = { vector_store_id: store, embedding, max_num_results: 10, ...filters };
  const exact = await call("SearchService/Search", { ...request, exact: true });
  expect(exact.data.map((hit: Reply) => hit.id)).toEqual(wanted);
  const usual = await call("SearchService/Search", request);
  expect(usual.data).toHaveLength(wanted.length);
  for (const hit of usual.data) expect(modelOf(store).get(hit.id)?.content).toBe(hit.content[0].text);
  recall.wanted += wanted.length;
  recall.found += usual.data.filter((hit: Reply) => wanted.includes(hit.id)).length;
}

async function check(store: string): Promise<void> {
  const reply = await fetch(`${server.url}/v1/vector_stores/${store}/embeddings/export`);
  const lines = (await reply.text()).split("\n").filter((line) => line !== "");
  const rows = lines.map((line) => JSON.parse(line) as { id: string; content: string });
  const model = [...modelOf(store)].map(([id, { content }]): [string, string] => [id, content]);
  expect(Object.fromEntries(rows.map(({ id, content }) => [id, content]))).toEqual(Object.fromEntries(model));
  expect(rows).toHaveLength(model.length);
  const found = await call("VectorStoreService/GetVectorStore", { vector_store_id: store });
  expect(found).toMatchObject({
    embedding_count: model.length,
    usage_bytes: model.reduce((sum, [, content]) => sum + content.length, 0),
    file_counts: { completed: model.length, total: model.length },
  });
}

/** One thing that a caller, an operator or a fault does. Returns its name. */
async function operate(random: Random, round: number): Promise<string> {
  const store = random.pick(STORES);
  const ask = (request: Json) => call("IndexService/UpdateIndex", { vector_store_id: store, ...request });
  const operations: Record<string, () => Promise<unknown>> = {
    async insert() {
      const rows = drawRows(random, true, round);
      await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: store, embeddings: rows });
      remember(store, rows);
    },
    async upsert() {
      const rows = drawRows(random, false, round);
      await upsert(store, rows);
      remember(store, rows);
    },
    async update() {
      const id = random.pick([...modelOf(store).keys(), "none"]);
      const row = modelOf(store).get(id) ?? { content: "", group: 0, embedding: [] };
      const [drawn] = drawRows(random, false, round) as [Rows[number], ...Rows];
      const { content, embedding } = drawn;
      const change = random.pick([{ content, embedding }, { embedding }, { metadata_merge: drawn.metadata }]);
      const request = { vector_store_id: store, embedding_id: id, ...change };
      const updated = call("EmbeddingService/UpdateEmbedding", request);
      if (!modelOf(store).has(id)) return expect(updated).rejects.toThrow("No embedding found");
      await updated;
      const group = "metadata_merge" in change ? drawn.metadata.group : row.group;
      return modelOf(store).set(id, { ...row, ...("embedding" in change && change), group });
    },
    async delete() {
      const id = random.pick([...modelOf(store).keys(), "none"]);
      const removed = call("EmbeddingService/DeleteEmbedding", { vector_store_id: store, embedding_id: id });
      if (modelOf(store).delete(id)) await removed;
      else await expect(removed).rejects.toThrow("No embedding found");
    },
    async purge() {
      const group = random.integer(0, 9);
      const filters = { type: "eq", key: "group", value: group };
      const doomed = [...modelOf(store)].filter(([, row]) => row.group === group).map(([id]) => id);
      const { deleted_count: count } = await call("EmbeddingService/PurgeEmbeddings", {
        vector_store_id: store,
        filters,
      });
      expect(count).toBe(doomed.length);
      for (const id of doomed) modelOf(store).delete(id);
    },
    search: () => search(random, store),
    check: () => check(store),
    promote: () => ask({ policy: random.pick(["always", "always", "auto"]) }),
    forbid: () => ask({ policy: "never" }),
    redesign: () => ask({ precision: random.pick(["float32", "float16", null]), m: random.pick([8, 16]) }),
    rebuild: () => call("IndexService/RebuildIndex", { vector_store_id: store }).catch(() => {}),
    async recreate() {
      await call("VectorStoreService/DeleteVectorStore", { vector_store_id: store });
      await create(store);
    },
    async kill() {
      if (database.kind === "embedded") return;
      await database.pool.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'pgquiver background'",
      );
    },
    wait: () => delay(random.integer(0, 100)),
  };
  const often = [
    "insert",
    "insert",
    "upsert",
    "upsert",
    "update",
    "update",
    "delete",
    "delete",
    "search",
    "search",
    "search",
    "wait",
  ];
  const rare = ["promote", "forbid", "redesign", "rebuild", "kill", "kill", "check", "purge", "wait"];
  const name = random.chance(0.02) ? "recreate" : random.pick(random.chance(0.7) ? often : rare);
  await operations[name]?.();
  return `${name} ${store}`;
}

test(`agrees with a model while tables and indexes come and go (seed ${SEED})`, async () => {
  const random = seededRandom(SEED);
  const worker = startIndexWorker(database, TEST_INDEXES, () => {});
  const done: string[] = [];
  try {
    for (const store of STORES) await create(store);
    for (let round = 0; round < OPERATIONS; round++) done.push(await operate(random, round));
    for (const store of STORES) await check(store);
  } catch (error) {
    throw new Error(`After ${done.length} operations, at last ${done.slice(-8).join(", ")}`, {
      cause: error,
    });
  } finally {
    await worker.stop();
  }
  expect(recall.wanted).toBeGreaterThan(OPERATIONS);
  expect(recall.found / recall.wanted).toBeGreaterThan(RECALL_MIN);
}, 300_000);
