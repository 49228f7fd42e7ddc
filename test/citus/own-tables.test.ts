import { afterAll, expect, test } from "vitest";
import { prepareCitus } from "../../src/postgres/citus/cluster.ts";
import { diagnose } from "../../src/diagnostics/diagnose.ts";
import { promoteStore } from "../../src/indexes/worker.ts";
import { encodeVector } from "../../src/postgres/copy.ts";
import { placeTables } from "../../src/postgres/tables.ts";
import { MetadataSamples } from "../../src/search/metadata-samples.ts";
import { indexOf } from "../../src/search/run.ts";
import { composeSplitSearch } from "../../src/search/statement.ts";
import { findStore, type VectorStoreRow } from "../../src/storage/stores.ts";
import type { Reply } from "../support/client.ts";
import { seedStore, TEST_INDEXES } from "../support/index-store.ts";
import { restOverHttp1 } from "../support/rest-client.ts";
import { startServer } from "../support/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());
const { database } = server;
const { pool } = database;
const { call } = restOverHttp1.connect(server);

let stores = 0;

/** A store with rows of three dimensions in the shared table. */
async function newStore(rows: number): Promise<string> {
  const id = `vs_${++stores}`;
  await seedStore(database, id, rows);
  return id;
}

/** A store with rows of three dimensions in a distributed table. */
async function makeStore(rows: number): Promise<string> {
  const id = await newStore(rows);
  // The vectors are too near to each other for float16.
  await pool.query("update vector_stores set precision = 'float32' where id = $1", [id]);
  await promoteStore(database, id, TEST_INDEXES);
  return id;
}

const vectorOf = (n: number) => [(n % 97) + 1, n % 89, n % 83];

test("a large store's table is one shard on a worker, and stores are spread over the workers", async () => {
  for (let count = 0; count < 4; count++) await makeStore(50);
  const { rows } = await pool.query<{ nodes: number; shards: number; tables: number }>(
    `select count(distinct nodeport)::int as nodes, count(*)::int as shards, count(distinct table_name)::int as tables
     from citus_shards where table_name::text like 'embeddings%' and nodeport <> (select nodeport from pg_dist_node where groupid = 0)`,
  );
  expect(rows).toEqual([{ nodes: 2, shards: stores, tables: stores }]);
});

test("searches by vector, filter, words and both find what they find in one Postgres", async () => {
  const id = await makeStore(2_000);
  const embedding = vectorOf(1234);
  const search = (request: object) =>
    call("SearchService/Search", { vector_store_id: id, embedding, max_num_results: 5, ...request });
  const ids = ({ data }: Reply) => data.map((hit: Reply) => hit.id);
  const exact = ids(await search({ exact: true }));
  expect(exact[0]).toBe("e1234");
  expect(ids(await search({}))).toEqual(exact);
  expect(ids(await search({ ef_search: 400 }))).toEqual(exact);
  expect(ids(await search({ filters: { type: "eq", key: "n", value: 77 } }))).toEqual(["e77"]);
  expect(ids(await search({ filters: { type: "gte", key: "n", value: 1999 } })).toSorted()).toEqual([
    "e1999",
    "e2000",
  ]);
  const weights = (embeddingWeight: number) => ({
    query: "1234",
    ranking_options: { hybrid_search: { embedding_weight: embeddingWeight, text_weight: 1 } },
  });
  expect(ids(await search(weights(0)))).toEqual(["e1234"]);
  expect(ids(await search(weights(1)))[0]).toBe("e1234");
});

test("the vector part of a search goes to the worker alone, in one task", async () => {
  const id = await makeStore(2_000);
  const store = (await findStore(pool, database.tables, id)) as VectorStoreRow;
  const vector = encodeVector(Float32Array.from(vectorOf(7)));
  const query = {
    vector,
    fusion: undefined,
    resultsMax: 5,
    filter: undefined,
    isExact: false,
    efSearch: 200,
  };
  const placed = placeTables(database.tables, store);
  const { hits } = composeSplitSearch(placed, store, query, indexOf(store));
  const { rows } = await pool.query<Record<"QUERY PLAN", string>>(`explain ${hits.text}`, hits.values);
  const plan = rows.map((row) => row["QUERY PLAN"]).join("\n");
  expect(plan).toContain("Task Count: 1");
  expect(plan).not.toContain("Distributed Subplan");
  expect(plan).toContain(`Index Scan using ${store.own_table}_hnsw_`);
});

test("the metadata of a table on a worker can be sampled, which chooses how a filter is searched", async () => {
  const id = await makeStore(500);
  const store = (await findStore(pool, database.tables, id)) as VectorStoreRow & { own_table: string };
  const sample = await new MetadataSamples().find(
    pool,
    database.tables,
    store,
    ["n"],
    AbortSignal.timeout(60_000),
  );
  expect(sample).toMatchObject({ storeRows: 500, rows: 500 });
});

test("a search after the table was dropped, with a cached row, tells that the store is gone", async () => {
  const id = await makeStore(100);
  const search = () => call("SearchService/Search", { vector_store_id: id, embedding: [1, 2, 3] });
  expect((await search()).data).toHaveLength(10);
  await call("VectorStoreService/DeleteVectorStore", { vector_store_id: id });
  await expect(search()).rejects.toMatchObject({ code: "not_found" });
  const { rows } = await pool.query(
    "select * from citus_shards where table_name::text = 'embeddings_' || $1",
    [id],
  );
  expect(rows).toEqual([]);
});

test("rows are inserted, refused when their ids are taken, replaced, changed and deleted, and counted", async () => {
  const id = await makeStore(100);
  const rows = (first: number, count: number) =>
    Array.from({ length: count }, (_, index) => ({
      id: `e${first + index}`,
      content: "four",
      embedding: vectorOf(first + index),
    }));
  const add = (embeddings: object[], rest = {}) =>
    call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: id, embeddings, ...rest });
  await add(rows(101, 40));
  await add(rows(141, 400));
  const taken = { code: "already_exists" };
  await expect(add(rows(540, 2))).rejects.toMatchObject(taken);
  // More than a statement takes: by COPY, whose error of a taken id Citus reports as a fault of its own.
  await expect(add(rows(540, 400))).rejects.toMatchObject(taken);
  await add(rows(531, 20), { mode: "upsert" });
  await call("EmbeddingService/UpdateEmbedding", {
    vector_store_id: id,
    embedding_id: "e1",
    metadata: { a: 1 },
  });
  await call("EmbeddingService/DeleteEmbedding", { vector_store_id: id, embedding_id: "e2" });
  const filters = { type: "lte", key: "n", value: 10 };
  const purged = await call("EmbeddingService/PurgeEmbeddings", { vector_store_id: id, filters });
  expect(purged.deleted_count).toBe(8);
  const store = await call("VectorStoreService/GetVectorStore", { vector_store_id: id });
  expect(store.embedding_count).toBe(100 + 450 - 1 - 8);
  const { own_table: table } = (await pool.query("select own_table from vector_stores where id = $1", [id]))
    .rows[0];
  const counted = await pool.query(
    `select count(*)::int as rows, sum(octet_length(content))::int as bytes from "${table}"`,
  );
  expect(counted.rows).toEqual([{ rows: store.embedding_count, bytes: store.usage_bytes }]);
});

test("the state of an index has the sizes of its shards", async () => {
  const id = await makeStore(1_000);
  const index = await call("IndexService/GetIndex", { vector_store_id: id });
  expect(index).toMatchObject({ state: "ready", method: "hnsw" });
  const { rows } = await pool.query<{ bytes: string }>("select citus_total_relation_size($1) as bytes", [
    index.table,
  ]);
  expect(index.index_bytes + index.table_bytes).toBe(Number(rows[0]?.bytes));
  expect(index.index_bytes).toBeGreaterThan(100_000);
});

test("the state of an index and the doctor name the node, the shards and the bytes of the table", async () => {
  const id = await makeStore(100);
  const { table, nodes } = await call("IndexService/GetIndex", { vector_store_id: id });
  const { rows } = await pool.query<{ name: string; bytes: string }>(
    `select nodename || ':' || nodeport as name, shard_size::text as bytes from citus_shards where table_name = $1::regclass`,
    [table],
  );
  expect(nodes).toEqual(rows.map(({ name, bytes }) => ({ name, shards: 1, bytes: Number(bytes) })));
  const settings = { isWorking: true, thresholdBytes: 0, memoryBytes: 1, workers: 0 };
  const found = await diagnose(database, settings, AbortSignal.timeout(60_000));
  const citus = found.filter(({ check }) => check === "citus").map(({ message }) => message);
  expect(citus.join(" ")).toMatch(new RegExp(`Shards of stores' tables: .*${nodes[0].name} [1-9][0-9]* \\(`));
  expect((await call("IndexService/GetIndex", { vector_store_id: await newStore(5) })).nodes).toEqual([]);
});

test("the doctor looks at each node, and finds tables that belong to no store", async () => {
  const settings = { isWorking: true, thresholdBytes: 0, memoryBytes: 1, workers: 0 };
  const find = async (check: string) =>
    (await diagnose(database, settings, AbortSignal.timeout(60_000))).filter(
      (finding) => finding.check === check,
    );
  const [citus] = await find("citus");
  expect(citus?.message).not.toContain("The check failed");
  expect((await find("own_tables"))[0]).toMatchObject({ severity: "ok" });
  const id = await makeStore(10);
  await pool.query("delete from pgquiver_indexes where vector_store_id = $1", [id]);
  const { rows } = await pool.query<{ own_table: string }>(
    "delete from vector_stores where id = $1 returning own_table",
    [id],
  );
  const [orphan] = await find("own_tables");
  expect(orphan?.message).toContain(`The table ${rows[0]?.own_table} `);
  await pool.query(`drop table ${rows[0]?.own_table}`);
});

test("CITUS=off leaves what is distributed as it is, and distributes nothing further", async () => {
  const state = await prepareCitus(database, "off", { memoryBytes: 64 * 1024 * 1024, workers: 0 });
  expect(state).toEqual({ distributes: false });
  const id = `vs_${++stores}`;
  await seedStore(database, id, 20);
  await promoteStore({ ...database, citus: state }, id, TEST_INDEXES);
  const { rows } = await pool.query(
    `select count(*)::int as count from embeddings where vector_store_id = $1`,
    [id],
  );
  expect(rows).toEqual([{ count: 20 }]);
});

test("a store on a worker is not embedded again, and the call says what to do instead", async () => {
  const id = await makeStore(10);
  await expect(call("VectorStoreService/ReembedVectorStore", { vector_store_id: id })).rejects.toMatchObject({
    code: "unimplemented",
    message: expect.stringContaining("on a node of the Citus cluster"),
  });
});
