import { afterAll, beforeAll, expect, test } from "vitest";
import { diagnose } from "../../src/diagnostics/diagnose.ts";
import { migrate } from "../../src/postgres/migrations/migrate.ts";
import { openEmptyDatabase, type TestDatabase } from "../support/databases/database.ts";
import { countByTable, setPolicy, startTestWorker } from "../support/stores/index-store.ts";
import { jsonClient, type Send } from "../support/clients/json.ts";
import { createLitellmTables } from "../support/databases/litellm-tables.ts";
import { startServer, type TestServer } from "../support/servers/server.ts";

/** Rows of the store `mixed`: most vectors have 3 dimensions, and the first row has 2. */
const ROWS = [
  ["a", "apple", "[1,0]"],
  ["b", "apple pie", "[1,0,0]"],
  ["c", "cherry", "[0,1,0]"],
  ["d", "date", "[1,1,0]"],
  ["e", "elder apple", "[0,0,0,1]"],
];

let database: TestDatabase;
let server: TestServer;
let send: Send;
const log: string[] = [];

beforeAll(async () => {
  database = await openEmptyDatabase();
  await createLitellmTables(database, "vector");
  const { pool } = database;
  await pool.query(
    `insert into vector_stores (id, name) values ('mixed', 'Mixed'), ('tied', 'Tied'), ('pure', 'Pure')`,
  );
  for (const [id, content, embedding] of ROWS)
    await pool.query("insert into embeddings values ($1, 'mixed', $2, $3)", [id, content, embedding]);
  await pool.query(
    `insert into embeddings values ('t1', 'tied', '', '[1,2]'), ('t2', 'tied', '', '[1,2,3]'), ('p1', 'pure', '', '[1,2]')`,
  );
  await migrate(database, (message) => log.push(message));
  server = await startServer({ database });
  send = jsonClient(server.url);
});

afterAll(async () => {
  await server[Symbol.asyncDispose]();
  await database.close();
});

/** The ids that a search finds, in order. */
async function search(body: object): Promise<unknown> {
  const { status, json } = await send("POST", "/v1/vector_stores/mixed/search", body);
  return status === 200 ? (json["data"] as { id: string }[]).map(({ id }) => id) : json;
}

test("a store has the length of most of its vectors, of equally many the longer, and the log counts the others", async () => {
  const { rows } = await database.pool.query(
    "select id, dimensions, embedding_count from vector_stores order by id",
  );
  expect(rows).toEqual([
    { id: "mixed", dimensions: 3, embedding_count: "5" },
    { id: "pure", dimensions: 2, embedding_count: "1" },
    { id: "tied", dimensions: 3, embedding_count: "2" },
  ]);
  expect(log).toContain(
    "002_adopt_litellm_pgvector.sql: stores with vectors of several lengths, of which searches find those of the most frequent length: " +
      "mixed (2 of 5 vectors have not 3 dimensions), tied (1 of 2 vectors have not 3 dimensions)",
  );
});

test("searches by vector find the vectors of the store's length, by words all rows", async () => {
  // Twice: the first fills the cache of stores.
  expect(await search({ embedding: [1, 0, 0] })).toEqual(["b", "d", "c"]);
  expect(await search({ embedding: [1, 0, 0] })).toEqual(["b", "d", "c"]);
  expect(await search({ embedding: [1, 0, 0], max_num_results: 1 })).toEqual(["b"]);
  const weights = (embedding_weight: number, text_weight: number) => ({
    query: "apple",
    ranking_options: { hybrid_search: { embedding_weight, text_weight } },
  });
  expect(await search({ ...weights(1, 1), embedding: [1, 0, 0] })).toEqual(
    expect.arrayContaining(["a", "b", "c", "d", "e"]),
  );
  expect(await search(weights(0, 1))).toEqual(expect.arrayContaining(["a", "b", "e"]));
});

test("a vector of another length is refused, in a query and in a row", async () => {
  expect(await search({ embedding: [1, 0] })).toMatchObject({ error: { param: "embedding" } });
  const { status, json } = await send("POST", "/v1/vector_stores/mixed/embeddings", {
    content: "f",
    embedding: [1, 0],
  });
  expect({ status, json }).toMatchObject({ status: 400, json: { error: { param: "embedding" } } });
});

test("the doctor counts the others, and its SQL makes them the ones that are searched", async () => {
  const settings = { isWorking: true, thresholdBytes: 0, memoryBytes: 1e9, workers: 0 };
  const find = async () =>
    (await diagnose(database, settings, AbortSignal.timeout(20_000))).filter(
      ({ check }) => check === "dimensions",
    );
  const found = await find();
  expect(new Set(found.map(({ storeId }) => storeId))).toEqual(new Set(["mixed", "tied"]));
  const tied = found.find(({ storeId }) => storeId === "tied");
  expect(tied).toMatchObject({
    severity: "warning",
    message: expect.stringContaining("has 3 dimensions and vectors of other lengths (1 of 2)"),
  });
  await database.pool.query(String(tied?.remedy?.match(/update .*;/)?.[0]));
  const searched = await send("POST", "/v1/vector_stores/tied/search", { embedding: [1, 2] });
  expect(searched.json).toMatchObject({ data: [{ id: "t1" }] });
  await database.pool.query(String(tied?.remedy?.match(/delete [^;]*;/)?.[0]).replace("<> 3", "<> 2"));
  expect((await find()).map(({ storeId }) => storeId)).toEqual(["mixed"]);
});

test("an index fails with the reason and a long pause, and searches go on in the store's own table", async () => {
  const worker = startTestWorker(database);
  await setPolicy(database, "mixed", "always");
  worker.wake();
  const lastError = async () => (await send("GET", "/v1/vector_stores/mixed/index")).json["last_error"];
  await expect
    .poll(lastError, { timeout: 20_000 })
    .toContain("vectors of other lengths, which no index can hold");
  const { rows } = await database.pool.query(
    "select attempts, retry_at > now() + interval '50 minutes' as is_paused from pgquiver_indexes where vector_store_id = 'mixed'",
  );
  expect(rows).toEqual([{ attempts: 1, is_paused: true }]);
  expect(worker.errors).toHaveLength(1);
  const [table] = Object.keys(await countByTable(database, "mixed"));
  expect(table).toMatch(/^embeddings_\d+$/);
  expect(await search({ embedding: [1, 0, 0] })).toEqual(["b", "d", "c"]);
});
