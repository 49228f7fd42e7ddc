import { afterAll, expect, test } from "vitest";
import { prepareCitus } from "../../src/postgres/citus/cluster.ts";
import { diagnose } from "../../src/diagnostics/diagnose.ts";
import { promoteStore } from "../../src/indexes/worker.ts";
import { encodeVector } from "../../src/postgres/copy.ts";
import { placeTables } from "../../src/postgres/tables.ts";
import { MetadataSamples } from "../../src/search/metadata-samples.ts";
import { indexOf } from "../../src/search/run.ts";
import { composeSplitSearch } from "../../src/search/distributed/split-statement.ts";
import { findStore, type VectorStoreRow } from "../../src/storage/stores.ts";
import type { Reply } from "../support/clients/client.ts";
import { seedStore, TEST_INDEXES } from "../support/stores/index-store.ts";
import { restOverHttp1 } from "../support/clients/rest-client.ts";
import { startServer } from "../support/servers/server.ts";
import { makeHardStore } from "../support/stores/hard-store.ts";

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

test("a search goes to the worker alone, in one task", async () => {
  const id = await makeStore(2_000);
  const store = (await findStore(pool, database.tables, id)) as VectorStoreRow;
  const vector = encodeVector(Float32Array.from(vectorOf(7)));
  const byVector = {
    vector,
    fusion: undefined,
    resultsMax: 5,
    filter: undefined,
    isExact: false,
    efSearch: 200,
  };
  const weights = { language: "english", vectorWeight: 1, keywordsWeight: 1 };
  const byBoth = { ...byVector, fusion: { keywords: "1234", ...weights }, storeRows: 2_000 };
  const placed = placeTables(database.tables, store);
  const indexed = `Index Scan using ${store.own_table}_hnsw_`;
  const worded = `Bitmap Index Scan on ${store.own_table}_text_`;
  for (const [query, expected] of [
    [byVector, indexed],
    [{ ...byVector, files: { size: 2 } }, indexed],
    [byBoth, indexed],
    [byBoth, worded],
    [{ ...byBoth, vector: undefined }, worded],
  ] as const) {
    const { hits } = composeSplitSearch(placed, store, query, indexOf(store));
    const { rows } = await pool.query<Record<"QUERY PLAN", string>>(`explain ${hits.text}`, hits.values);
    const plan = rows.map((row) => row["QUERY PLAN"]).join("\n");
    expect(plan).toContain("Task Count: 1");
    expect(plan).not.toContain("Distributed Subplan");
    expect(plan).toContain(expected);
  }
});

test("ef_search of a request and of the store reaches the worker in hybrid searches and those by file", async () => {
  const id = `vs_${++stores}`;
  const embeddings = await makeHardStore(database, id);
  const hybrid = {
    query: "nothing",
    ranking_options: { hybrid_search: { embedding_weight: 1, text_weight: 0.1 } },
  };
  const expectReach = async (send: typeof call) => {
    for (const kind of [{}, hybrid, { group_by: "file", group_size: 1 }]) {
      const search = async (request: object) => {
        const found: string[] = [];
        for (const embedding of embeddings) {
          const asked = { vector_store_id: id, embedding, max_num_results: 20, ...kind, ...request };
          const { data } = await send("SearchService/Search", asked);
          found.push(...data.map((hit: Reply) => hit.id));
        }
        return found;
      };
      const exact = await search({ exact: true });
      expect(exact).toHaveLength(20 * embeddings.length);
      expect(await search({ ef_search: 1000 }), JSON.stringify(kind)).toEqual(exact);
      expect(await search({ ef_search: 1 }), JSON.stringify(kind)).not.toEqual(exact);
      await pool.query("update vector_stores set ef_search = 1000 where id = $1", [id]);
      expect(await search({}), JSON.stringify(kind)).toEqual(exact);
      await pool.query("update vector_stores set ef_search = null where id = $1", [id]);
    }
  };
  await expectReach(call);
  // The process knows for a minute that a table is one shard.
  const { rows } = await pool.query<{ own_table: string }>(
    "select own_table from vector_stores where id = $1",
    [id],
  );
  await pool.query(
    `select citus_split_shard_by_split_points(shardid, array['0'], array[target.nodeid, target.nodeid]::int[], 'block_writes')
     from citus_shards join pg_dist_node as source using (nodename, nodeport), pg_dist_node as target
     where table_name = $1::regclass and target.groupid > 0 and target.nodeid <> source.nodeid`,
    [rows[0]?.own_table],
  );
  await using later = await startServer({ database });
  await expectReach(restOverHttp1.connect(later).call);
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

test("results by file, that differ, with neighbors and vectors, and filters by words are those of one Postgres", async () => {
  const [there, here] = [await newStore(0), await newStore(0)];
  for (const id of [there, here]) {
    await pool.query(
      `insert into embeddings (vector_store_id, id, content, embedding, metadata, file_id, chunk_index)
       select $1, 'file_' || n / 20 || '_' || n % 20, 'word' || n % 7 || ' of ' || n, array[n % 97 + 1, n % 89, n % 83]::vector,
         jsonb_build_object('n', n), 'file_' || n / 20, n % 20
       from generate_series(0, 399) as n`,
      [id],
    );
    await pool.query(
      "update vector_stores set embedding_count = 400, precision = 'float32', index_policy = 'never' where id = $1",
      [id],
    );
  }
  await pool
    .query(
      `insert into files (id, filename, purpose, bytes, state)
     select 'file_' || n, n || '.txt', 'assistants', 1, 'ready' from generate_series(0, 19) as n`,
    )
    .catch(() => {});
  await promoteStore(database, there, TEST_INDEXES);
  const search = async (id: string, request: object) =>
    (await call("SearchService/Search", { vector_store_id: id, embedding: vectorOf(123), ...request })).data;
  for (const request of [
    { group_by: "file", group_size: 2, max_num_results: 5 },
    { diversity: 0.7, max_num_results: 8 },
    { neighbors: 2, max_num_results: 5 },
    { include: ["embedding", "metadata"], max_num_results: 5 },
    { include: ["embedding"], group_by: "file", max_num_results: 5 },
    { filters: { type: "text", value: "word3" }, max_num_results: 10 },
    { filters: { type: "text", value: "word3 -321" }, group_by: "file", max_num_results: 4 },
    { limit: 7, exact: true },
  ]) {
    const expected = await search(here, { ...request, exact: true });
    expect(expected.length).toBeGreaterThan(3);
    expect(await search(there, { ...request, ef_search: 400 }), JSON.stringify(request)).toEqual(expected);
  }
  const filters = { type: "lt", key: "n", value: 50 };
  for (const [rpc, request] of Object.entries<object>({
    "EmbeddingService/ListEmbeddings": { limit: 20 },
    "EmbeddingService/QueryEmbeddings": { filters, limit: 20, include: ["embedding", "content"] },
    "EmbeddingService/CountEmbeddings": { filters },
    "EmbeddingService/FacetEmbeddings": { attributes: ["n"], values_max: 5 },
    "EmbeddingService/GetEmbedding": { embedding_id: "file_3_4" },
  })) {
    const ask = async (id: string) => {
      const reply = await call(rpc, { vector_store_id: id, ...request });
      // Page tokens are signed for a store and a time.
      const text = JSON.stringify(reply).replaceAll(id, "the store");
      return text.replaceAll(/"(created_at|next_page)":[^,}]+/g, "");
    };
    expect(await ask(there), rpc).toEqual(await ask(here));
  }
});

test("files are attached to a store on a worker, replaced with places, changed, read and removed", async () => {
  const { id } = await call("VectorStoreService/CreateVectorStore", {});
  await call("EmbeddingService/CreateEmbedding", { vector_store_id: id, content: "a first text" });
  await promoteStore(database, id, TEST_INDEXES);
  const [row] = (await pool.query("select own_table from vector_stores where id = $1", [id])).rows;
  const upload = async (text: string) => {
    const form = new FormData();
    form.set("purpose", "assistants");
    form.set("file", new File([text], "notes.md"));
    const reply = await fetch(`${server.url}/v1/files`, { method: "POST", body: form });
    return ((await reply.json()) as { id: string }).id;
  };
  const file_id = await upload("# Owls\n\nOwls fly at night.\n\n# Foxes\n\nFoxes run at dusk.\n");
  const file = { vector_store_id: id, file_id };
  const until = async (asked: Record<string, string>, status: string) =>
    expect
      .poll(async () => (await call("VectorStoreFileService/GetVectorStoreFile", asked)).status, {
        timeout: 30_000,
      })
      .toBe(status);
  await call("VectorStoreFileService/CreateVectorStoreFile", file);
  await until(file, "completed");
  const search = async (query: string) =>
    (await call("SearchService/Search", { vector_store_id: id, query, max_num_results: 1 })).data[0];
  expect(await search("owls fly")).toMatchObject({
    file_id,
    place: { start_index: 0 },
    filename: "notes.md",
  });
  await call("VectorStoreFileService/UpdateVectorStoreFile", { ...file, attributes: { kind: "animals" } });
  expect((await search("foxes run")).attributes).toMatchObject({ kind: "animals" });
  const newer = await upload("# Bats\n\nBats hang upside down.\n");
  await call("VectorStoreFileService/ReplaceVectorStoreFile", { ...file, new_file_id: newer });
  const replaced = { vector_store_id: id, file_id: newer };
  await until(replaced, "completed");
  expect(await search("bats hang")).toMatchObject({ file_id: newer });
  const content = await call("VectorStoreFileService/GetVectorStoreFileContent", replaced);
  expect(JSON.stringify(content)).toContain("upside down");
  await call("VectorStoreFileService/DeleteVectorStoreFile", replaced);
  const { rows } = await pool.query(`select content from "${row.own_table}"`);
  expect(rows).toEqual([{ content: "a first text" }]);
  const store = await call("VectorStoreService/GetVectorStore", { vector_store_id: id });
  expect(store).toMatchObject({ embedding_count: 1 });
});
