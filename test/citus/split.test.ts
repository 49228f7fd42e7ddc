// The index worker splits a shard that has grown beyond CITUS_SHARD_BYTES.
import { afterAll, expect, test } from "vitest";
import { promoteStore } from "../../src/indexes/worker.ts";
import { seedStore, startTestWorker, TEST_INDEXES } from "../support/stores/index-store.ts";
import { restOverHttp1 } from "../support/clients/rest-client.ts";
import { startServer } from "../support/servers/server.ts";

const server = await startServer();
afterAll(() => server[Symbol.asyncDispose]());
const { database } = server;
const { pool } = database;
const { call } = restOverHttp1.connect(server);

const ROWS = 4_000;

async function makeStore(id: string, rows: number) {
  await seedStore(database, id, rows);
  await pool.query("update vector_stores set precision = 'float32' where id = $1", [id]);
  await promoteStore(database, id, TEST_INDEXES);
}

const indexOf = (id: string) => call("IndexService/GetIndex", { vector_store_id: id });

test("a shard beyond the size is split while its store is written, and all of its rows are found", async () => {
  await makeStore("large", ROWS);
  await makeStore("small", 50);
  const [whole] = (await indexOf("large")).nodes;
  const worker = startTestWorker(database, { shardBytes: Math.floor(whole.bytes * 0.8) });
  let added = 0;
  const untilSplit = async () => {
    for (; (await indexOf("large")).nodes.length < 2; added++) {
      expect(worker.errors).toEqual([]);
      const embeddings = [{ id: `x${added}`, content: "x", embedding: [added + 1, 5, 7] }];
      await call("EmbeddingService/BatchCreateEmbeddings", { vector_store_id: "large", embeddings });
    }
  };
  await untilSplit();
  await worker.stop();
  expect(added).toBeGreaterThan(0);
  expect((await indexOf("small")).nodes).toMatchObject([{ shards: 1 }]);
  expect((await indexOf("large")).nodes).toMatchObject([{ shards: 1 }, { shards: 1 }]);
  const { rows } = await pool.query<{ ids: number }>(
    "select count(distinct id)::int as ids from all_embeddings_of(array['large'])",
  );
  const store = await call("VectorStoreService/GetVectorStore", { vector_store_id: "large" });
  expect([rows[0]?.ids, store.embedding_count]).toEqual([ROWS + added, ROWS + added]);
  const search = async (request: object) => {
    const asked = { vector_store_id: "large", embedding: [50, 20, 30], max_num_results: 50, ...request };
    return (await call("SearchService/Search", asked)).data.map(({ id }: { id: string }) => id);
  };
  const exact = await search({ exact: true });
  expect(exact).toHaveLength(50);
  expect(new Set(await search({ ef_search: 400 }))).toEqual(new Set(exact));
  // By words of all shards: no other text has this number.
  const ranking_options = { hybrid_search: { embedding_weight: 0, text_weight: 1 } };
  expect((await search({ query: "text 3999", embedding: undefined, ranking_options }))[0]).toBe("e3999");
}, 300_000);
