// Searches that go to the worker that holds the shard, without the coordinator.
import { afterAll, afterEach, expect, test } from "vitest";
import { promoteStore } from "../../src/indexes/worker.ts";
import { clusterNodes, type ClusterNode } from "../support/databases/cluster-nodes.ts";
import { readWays } from "../support/databases/direct-searches.ts";
import { seedStore, TEST_INDEXES } from "../support/stores/index-store.ts";
import type { Reply } from "../support/clients/client.ts";
import { restOverHttp1 } from "../support/clients/rest-client.ts";
import { startServer } from "../support/servers/server.ts";
import { makeHardStore } from "../support/stores/hard-store.ts";

const server = await startServer();
const { database } = server;
const { pool } = database;
const { call } = restOverHttp1.connect(server);
const { coordinator, workers } = clusterNodes(new URL(String((database as { url?: string }).url)).href);
/** A service that does not search directly. */
const usual = await startServer({ database, search: { isDirect: false } });
afterAll(async () => {
  await usual[Symbol.asyncDispose]();
  await server[Symbol.asyncDispose]();
});
afterEach(async () => {
  for (const node of [coordinator, ...workers]) await node.releaseCommits();
});

let stores = 0;

interface Shard {
  id: string;
  table: string;
  shard: string;
  worker: ClusterNode;
}

/** Where the shard of a store is. */
async function findShard(id: string): Promise<Shard> {
  const [row] = await coordinator.query<{ table: string; shard: string; port: number }>(
    `select table_name::text as table, shard_name as shard, nodeport as port from citus_shards
     where table_name::text = (select own_table from vector_stores where id = '${id}')`,
  );
  const ports = await Promise.all(
    workers.map((node) => node.query<{ port: number }>("select inet_server_port() as port")),
  );
  const worker = workers[ports.findIndex(([place]) => place?.port === row?.port)];
  if (worker === undefined || row === undefined) throw new Error("The store has no shard.");
  return { id, table: row.table, shard: row.shard, worker };
}

/** A store in a distributed table, which searches reach directly. */
async function makeStore(rows = 10): Promise<Shard> {
  const id = `vs_${++stores}`;
  await seedStore(database, id, rows);
  await pool.query("update vector_stores set precision = 'float32' where id = $1", [id]);
  await promoteStore(database, id, TEST_INDEXES);
  await untilDirect(id);
  return findShard(id);
}

async function search(id: string, request: object = {}): Promise<Reply[]> {
  const asked = { vector_store_id: id, embedding: [1, 2, 3], max_num_results: 10, ...request };
  return (await call("SearchService/Search", asked)).data;
}

/** The ways that searches took during `work`, without numbers. */
async function waysOf(work: () => Promise<unknown>): Promise<string[]> {
  const before = await readWays(server);
  await work();
  const after = await readWays(server);
  return Object.keys(after).filter((way) => after[way] !== before[way]);
}

async function untilDirect(id: string): Promise<void> {
  await expect.poll(() => waysOf(() => search(id)), { timeout: 60_000, interval: 50 }).toEqual(["direct"]);
}

/** Moves the shard to the other worker, where it stays. */
async function move({ table }: Shard, mode: string): Promise<void> {
  await coordinator.query(
    `select citus_move_shard_placement(shardid, source.nodeid, target.nodeid, '${mode}')
     from citus_shards join pg_dist_node as source using (nodename, nodeport), pg_dist_node as target
     where table_name = '${table}'::regclass and target.groupid > 0 and target.nodeid <> source.nodeid`,
  );
}

async function add(id: string, n: number): Promise<void> {
  const embeddings = [{ id: `x${n}`, content: `more ${n}`, embedding: [n, 1, 2], metadata: { n } }];
  await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: id, embeddings, mode: "upsert" });
}

/** Ranks by words alone, and by vector and words. */
const WORDS = {
  embedding: undefined,
  ranking_options: { hybrid_search: { embedding_weight: 0, text_weight: 1 } },
};
const BOTH = { ranking_options: { hybrid_search: { embedding_weight: 1, text_weight: 1 } } };

/** What lets a session lock a shard. */
const LOCK = "set local citus.enable_manual_changes_to_shards = on";

const vectorOf = (n: number) => [(n % 97) + 1, n % 89, n % 83];

test("a direct search finds what one through the coordinator finds", async () => {
  const id = `vs_${++stores}`;
  await pool.query(
    "insert into vector_stores (id, dimensions, embedding_count, precision) values ($1, 3, 2000, 'float32')",
    [id],
  );
  await pool.query(
    `insert into embeddings (vector_store_id, id, content, embedding, metadata, file_id, chunk_index)
     select $1, 'file_' || n / 20 || '_' || n % 20, 'word' || n % 7 || ' of ' || n, array[n % 97 + 1, n % 89, n % 83]::vector,
       jsonb_build_object('n', n), 'file_' || n / 20, n % 20
     from generate_series(0, 1999) as n`,
    [id],
  );
  await pool.query(
    `insert into pgquiver_files (id, filename, purpose, bytes, state, created_at)
     select 'file_' || n, n || '.txt', 'assistants', 1, 'ready', now() from generate_series(0, 99) as n`,
  );
  await promoteStore(database, id, TEST_INDEXES);
  await untilDirect(id);
  const { call: callUsual } = restOverHttp1.connect(usual);
  const compare = async (request: object) => {
    const asked = { vector_store_id: id, embedding: vectorOf(1234), max_num_results: 8, ...request };
    const { data } = await callUsual("SearchService/Search", asked);
    expect(data.length, JSON.stringify(request)).toBeGreaterThan(0);
    const ways = await waysOf(async () => expect(await search(id, asked)).toEqual(data));
    return ways;
  };
  for (const request of [
    {},
    { exact: true },
    { ef_search: 400 },
    { filters: { type: "eq", key: "n", value: 77 } },
    { filters: { type: "gte", key: "n", value: 1990 } },
    { filters: { type: "text", value: "word3 -321" } },
    { include: ["embedding", "metadata"] },
    { group_by: "file", group_size: 2, exact: true },
    { diversity: 0.7 },
    { neighbors: 2 },
    { max_num_results: 7, exact: true },
    { query: "word3 1234", ...WORDS },
    { query: ["word3 1234", "of 77", "word5 or 1999"], ...WORDS },
    { query: "word3", ...WORDS, filters: { type: "gte", key: "n", value: 1500 } },
    { query: "word3 1234", ...BOTH },
    { query: "word3", ...BOTH, exact: true },
    { query: "word3", ...BOTH, ef_search: 400 },
    { query: "word3 of", ...BOTH, filters: { type: "lt", key: "n", value: 300 } },
    { query: "word3", ...BOTH, filters: { type: "text", value: "of -321" } },
    { query: "word3", ...BOTH, include: ["embedding", "metadata"] },
    { query: "word3", ...BOTH, group_by: "file", group_size: 2 },
    { query: "word3", ...BOTH, diversity: 0.7 },
    { query: "word3 77", ...BOTH, neighbors: 2 },
  ])
    expect(await compare(request), JSON.stringify(request)).toEqual(["direct"]);
});

test("words are weighed by the number of rows that the store has at the moment", async () => {
  const store = await makeStore(1_000);
  // Ten rows with one word, and twenty with another, of which one has it twice.
  const contents = [...Array<string>(10).fill("owl"), ...Array<string>(19).fill("fox"), "fox fox"];
  const embeddings = contents.map((content, n) => ({ id: `x${n}`, content, embedding: [n + 1, 1, 2] }));
  await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: store.id, embeddings });
  const { call: callUsual } = restOverHttp1.connect(usual);
  const asked = { vector_store_id: store.id, query: "owl fox", max_num_results: 1, ...WORDS };
  const best = async () => {
    const found = [await call("SearchService/Search", asked), await callUsual("SearchService/Search", asked)];
    return found.map(({ data }) => data[0].content[0].text);
  };
  const ways = await waysOf(async () => {
    // Of 1,030 rows both words are rare; of 40 the second is in every other one.
    expect(await best()).toEqual(["fox fox", "fox fox"]);
    const filters = { type: "gt", key: "n", value: 10 };
    await call("EmbeddingService/PurgeEmbeddings", { vector_store_id: store.id, filters });
    expect(await best()).toEqual(["owl", "owl"]);
  });
  expect(ways).toEqual(["direct"]);
});

test("ef_search of a request and of the store reaches the worker", async () => {
  const id = `vs_${++stores}`;
  const embeddings = await makeHardStore(database, id);
  const find = async (request: object) => {
    const found: string[] = [];
    for (const embedding of embeddings)
      found.push(
        ...(await search(id, { embedding, max_num_results: 20, ...request })).map((hit: Reply) => hit.id),
      );
    return found;
  };
  await expect.poll(() => waysOf(() => find({})), { timeout: 60_000 }).toEqual(["direct"]);
  const ways = await waysOf(async () => {
    const exact = await find({ exact: true });
    expect(await find({ ef_search: 1000 })).toEqual(exact);
    expect(await find({ ef_search: 1 })).not.toEqual(exact);
    await pool.query("update vector_stores set ef_search = 1000 where id = $1", [id]);
    expect(await find({})).toEqual(exact);
  });
  expect(ways).toEqual(["direct"]);
});

test("a row is found as soon as it is acknowledged, while COMMIT PREPARED is slow", async () => {
  const store = await makeStore();
  const ids = async () => (await search(store.id, { max_num_results: 50 })).map((hit: Reply) => hit.id);
  await coordinator.holdCommits();
  let isAcknowledged = false;
  const added = add(store.id, 1).then(() => (isAcknowledged = true));
  await coordinator.untilHeld();
  // The worker has prepared the row; from here on its COMMIT PREPARED waits.
  await store.worker.holdCommits();
  await coordinator.releaseCommits();
  await store.worker.untilHeld();
  const ways = await waysOf(async () => {
    expect(await ids()).toHaveLength(10);
    expect(isAcknowledged).toBe(false);
    await store.worker.releaseCommits();
    await added;
    expect(await ids()).toContain("x1");
  });
  expect(ways).toEqual(["direct"]);
});

test("a shard that was moved is not read where it was, and then where it is", async () => {
  const store = await makeStore();
  await move(store, "block_writes");
  // The former worker keeps the former shard for a while.
  const former = await store.worker.query<{ found: boolean }>(
    `select to_regclass('${store.shard}') is not null as found`,
  );
  expect(former).toEqual([{ found: true }]);
  await add(store.id, 1);
  const ways = await waysOf(async () => {
    expect(await search(store.id, { exact: true, max_num_results: 50 })).toHaveLength(11);
  });
  expect(ways).toEqual(["moved"]);
  await untilDirect(store.id);
});

test.each([
  ["vector", {}],
  ["words", { query: "text 1", ...WORDS }],
  ["both", { query: "text 1", ...BOTH }],
])("a search by %s notices that the shard was moved after its hits were read", async (_kind, request) => {
  const store = await makeStore();
  const checking = () =>
    coordinator.query(
      `select pid from pg_stat_activity where datname = current_database() and query like '%is_placed%' and wait_event_type = 'Lock'`,
    );
  let found: Promise<Reply[]> | undefined;
  const ways = await waysOf(async () => {
    {
      // Of the statements of a search only the check reads the names of files.
      await using lock = await coordinator.hold("lock table pgquiver_files in access exclusive mode");
      expect(lock).toBeDefined();
      found = search(store.id, { exact: true, max_num_results: 50, ...request });
      await expect.poll(checking, { timeout: 30_000, interval: 20 }).toHaveLength(1);
      await move(store, "block_writes");
      await add(store.id, 1);
    }
    expect((await found).map((hit: Reply) => hit.id)).toContain("x1");
  });
  expect(ways).toEqual(["moved"]);
});

test("a node whose address in the cluster has changed is not read where it was", async () => {
  const store = await makeStore();
  const [node] = await coordinator.query<{ nodeid: number; port: number }>(
    `select nodeid, nodeport as port from pg_dist_node join citus_shards using (nodename, nodeport) where shard_name = '${store.shard}'`,
  );
  // The same server under another name, as a standby that was promoted.
  const rename = (name: string) =>
    coordinator.query(`select citus_update_node(${node?.nodeid}, '${name}', ${node?.port})`);
  await rename("localhost");
  expect(await waysOf(() => search(store.id))).toEqual(["moved"]);
  await untilDirect(store.id);
  await rename("127.0.0.1");
});

test("a store that is deleted and made again is not found in its former table", async () => {
  const store = await makeStore(30);
  await call("VectorStoreService/DeleteVectorStore", { vector_store_id: store.id });
  await expect(search(store.id)).rejects.toMatchObject({ code: "not_found" });
  await seedStore(database, store.id, 7);
  expect(await search(store.id)).toHaveLength(7);
  await promoteStore(database, store.id, TEST_INDEXES);
  await untilDirect(store.id);
  expect(await search(store.id)).toHaveLength(7);
});

test("finds each acknowledged row at once while shards are moved and split, and nodes crash", async () => {
  const store = await makeStore();
  let isOver = false;
  const codes = new Set<string>();
  let found = 0;
  const persist = async <T>(send: () => Promise<T>): Promise<T> => {
    for (;;) {
      try {
        return await send();
      } catch (error) {
        codes.add(String((error as { code: unknown }).code));
      }
    }
  };
  const write = async (first: number) => {
    for (let n = first; !isOver; n++) {
      await persist(() => add(store.id, n));
      const filters = { type: "eq", key: "n", value: n };
      const hits = await persist(() => search(store.id, { filters }));
      expect(hits.map((hit: Reply) => hit.id)).toContain(`x${n}`);
      found++;
    }
  };
  const untilMore = async () => {
    const before = found;
    await expect.poll(() => found, { timeout: 60_000, interval: 20 }).toBeGreaterThan(before + 10);
  };
  const ways = await waysOf(async () => {
    const writers = [1_000, 1_000_000].map(write);
    try {
      for (const work of [
        () => move(store, "block_writes"),
        () => move(store, "force_logical"),
        () => coordinator.crash(),
        () => store.worker.crash(),
      ]) {
        await untilMore();
        await work();
      }
      await untilMore();
      await untilDirect(store.id);
      await coordinator.query(
        `select citus_split_shard_by_split_points(shardid, array['0'], array[target.nodeid, target.nodeid]::int[], 'block_writes')
         from citus_shards join pg_dist_node as source using (nodename, nodeport), pg_dist_node as target
         where table_name = '${store.table}'::regclass and target.groupid > 0 and target.nodeid <> source.nodeid`,
      );
      await untilMore();
    } finally {
      isOver = true;
      await Promise.all(writers);
    }
  });
  expect(ways).toEqual(expect.arrayContaining(["direct", "moved"]));
  expect([...codes].filter((code) => code !== "unavailable" && code !== "aborted")).toEqual([]);
}, 180_000);

test("the deadline of a search ends its statement on the worker", async () => {
  const store = await makeStore();
  await using hasty = await startServer({ database, search: { timeoutMs: 1_500 } });
  const { call: callHasty } = restOverHttp1.connect(hasty);
  const find = () => callHasty("SearchService/Search", { vector_store_id: store.id, embedding: [1, 2, 3] });
  await expect
    .poll(async () => (await find()) && (await readWays(hasty))["direct"], { timeout: 60_000 })
    .toBeGreaterThan(0);
  const waiting = () =>
    store.worker.query(
      `select pid from pg_stat_activity where datname = current_database() and query like '%${store.shard}%<=>%' and wait_event_type = 'Lock'`,
    );
  await using lock = await store.worker.hold(`${LOCK}; lock table ${store.shard} in access exclusive mode`);
  const late = expect(find()).rejects.toMatchObject({ code: "deadline_exceeded" });
  await expect.poll(waiting, { timeout: 30_000, interval: 20 }).toHaveLength(1);
  await late;
  await expect.poll(waiting, { timeout: 30_000, interval: 20 }).toEqual([]);
  expect(lock).toBeDefined();
});
