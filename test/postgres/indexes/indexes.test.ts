import { afterAll, expect, test, vi } from "vitest";
import { promoteStore } from "../../../src/indexes/worker.ts";
import { textVector } from "../../../src/postgres/text-index.ts";
import { vectorExpression } from "../../../src/postgres/vector-index.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import {
  allEmbeddings,
  countByTable,
  findIndex,
  findLeftovers,
  seedStore,
  setPolicy,
  startTestWorker,
  TEST_INDEXES,
} from "../../support/stores/index-store.ts";

const database = await openTestDatabase();
afterAll(() => database.close());
const { pool } = database;

let stores = 0;
async function newStore(rows: number): Promise<string> {
  const id = `store ${++stores}`;
  await seedStore(database, id, rows);
  return id;
}

async function untilState(id: string, state: string): Promise<void> {
  await vi.waitFor(
    async () => expect(await findIndex(database, id)).toMatchObject({ index_state: state, due: false }),
    {
      timeout: 60_000,
      interval: 20,
    },
  );
}

test("gives a store a table of its own, a child of the shared one, and an index that is used", async () => {
  const id = await newStore(2_000);
  const other = await newStore(10);
  await promoteStore(database, id, TEST_INDEXES);
  const { own_table: table, ...index } = await findIndex(database, id);
  expect(index).toEqual({
    index_state: "ready",
    index_policy: "always",
    index_precision: "float16",
    language: "english",
    last_error: null,
    attempts: 0,
    due: false,
  });
  expect(await countByTable(database, id)).toEqual({ [String(table)]: 2_000 });
  expect(await countByTable(database, other)).toEqual({ embeddings: 10 });
  const { indexed, query, operator } = vectorExpression("embedding", "float16", 3);
  const { rows } = await pool.query<Record<"QUERY PLAN", string>>(
    `explain select id from only "${table}" order by ${indexed} ${operator} ${query("'[1,2,3]'")} limit 10`,
  );
  expect(rows.map((row) => row["QUERY PLAN"]).join("\n")).toContain(`Index Scan using ${table}_hnsw_`);
});

test("copies all there is to a row, and finds its words", async () => {
  const id = await newStore(0);
  await pool.query(
    `insert into embeddings values ($1, 'e', 'running foxes', '[1,0,0]', '{"a": [1, null]}', '2001-02-03T04:05:06Z', 'file_1', 7)`,
    [id],
  );
  const read = `select * from ${allEmbeddings(database)} where vector_store_id = $1`;
  const before = await pool.query(read, [id]);
  await pool.query("update vector_stores set embedding_count = 1, dimensions = 3 where id = $1", [id]);
  await promoteStore(database, id, TEST_INDEXES);
  expect((await pool.query(read, [id])).rows).toEqual(before.rows);
  const { own_table: table } = await findIndex(database, id);
  const found = await pool.query(
    `select content_tsvector = ${textVector("content", "english")} as same, content_tsvector @@ 'fox' as found from "${table}"`,
  );
  expect(found.rows).toEqual([{ same: true, found: true }]);
});

test("takes any id and any text search configuration", async () => {
  const id = `it's "$1" \\ ☃ ${"x".repeat(100)}`;
  await seedStore(database, id, 5);
  await pool.query(`update vector_stores set language = 'german' where id = $1`, [id]);
  await promoteStore(database, id, TEST_INDEXES);
  const { own_table: table, language } = await findIndex(database, id);
  expect(language).toBe("german");
  expect(await countByTable(database, id)).toEqual({ [String(table)]: 5 });
});

test("keeps rows of texts whose words no tsvector can hold", async () => {
  const id = await newStore(1);
  const words = Array.from({ length: 180_000 }, (_, index) => index.toString(36)).join(" ");
  await pool.query("update embeddings set content = $2 where vector_store_id = $1", [id, words]);
  await promoteStore(database, id, TEST_INDEXES);
  const { own_table: table } = await findIndex(database, id);
  expect(await countByTable(database, id)).toEqual({ [String(table)]: 1 });
});

test("refuses rows of another store in the table of one", async () => {
  const id = await newStore(1);
  await promoteStore(database, id, TEST_INDEXES);
  const { own_table: table } = await findIndex(database, id);
  await expect(
    pool.query(
      `insert into "${table}" (vector_store_id, id, content, embedding) values ('other', 'e', '', '[1,2,3]')`,
    ),
  ).rejects.toThrow("check constraint");
});

test("gives a table to a store that has grown beyond the threshold, and to no other", async () => {
  const large = await newStore(100);
  const small = await newStore(99);
  const worker = startTestWorker(database, { thresholdBytes: 100 * 3 * 4 });
  await untilState(large, "ready");
  await worker.stop();
  expect(await findIndex(database, small)).toMatchObject({ index_state: "none", own_table: null });
  expect(worker.errors).toEqual([]);
});

test("gives an empty store its table as soon as it has dimensions, where that is asked for", async () => {
  const id = await newStore(0);
  await pool.query("update vector_stores set dimensions = null, index_policy = 'always' where id = $1", [id]);
  const worker = startTestWorker(database);
  const other = await newStore(0);
  await setPolicy(database, other, "always");
  await untilState(other, "ready");
  expect(await findIndex(database, id)).toMatchObject({ index_state: "none", own_table: null });
  await pool.query("update vector_stores set dimensions = 3 where id = $1", [id]);
  await untilState(id, "ready");
  expect(worker.errors).toEqual([]);
});

test("drops an index that is forbidden, keeps the table, and builds it again when it is allowed", async () => {
  const id = await newStore(50);
  await promoteStore(database, id, TEST_INDEXES);
  const { own_table: table } = await findIndex(database, id);
  startTestWorker(database);
  await setPolicy(database, id, "never");
  await untilState(id, "none");
  expect(await findIndex(database, id)).toMatchObject({ own_table: table, index_precision: null });
  const indexesOfTable = async () =>
    (await findLeftovers(database)).indexes.filter((name) => name.startsWith(`${table}_`));
  expect(await indexesOfTable()).toEqual([]);
  await setPolicy(database, id, "auto");
  await untilState(id, "ready");
  expect(await indexesOfTable()).toHaveLength(1);
});

test("replaces an index by one of another make, which stays in use meanwhile", async () => {
  const id = await newStore(200);
  await promoteStore(database, id, TEST_INDEXES);
  const { own_table: table } = await findIndex(database, id);
  await pool.query("update vector_stores set precision = 'binary' where id = $1", [id]);
  await pool.query(
    "update pgquiver_indexes set m = 8, rebuild = true, due = true where vector_store_id = $1",
    [id],
  );
  startTestWorker(database);
  await untilState(id, "ready");
  expect(await findIndex(database, id)).toMatchObject({ index_precision: "binary" });
  const { rows } = await pool.query("select indexdef from pg_indexes where indexname like $1", [
    `${table}_hnsw_%`,
  ]);
  expect(rows).toEqual([
    {
      indexdef: expect.stringMatching(
        /binary_quantize\(embedding\)\)::bit\(3\)\) bit_hamming_ops\) WITH \(m='?8'?/,
      ),
    },
  ]);
});

test("says why an index cannot be built, and tries again", async () => {
  const id = await newStore(1);
  await pool.query(
    "update vector_stores set dimensions = 2001, precision = 'float32', index_policy = 'always' where id = $1",
    [id],
  );
  await pool.query("delete from embeddings where vector_store_id = $1", [id]);
  const worker = startTestWorker(database);
  await vi.waitFor(async () => expect((await findIndex(database, id)).attempts).toBeGreaterThan(1), {
    timeout: 60_000,
  });
  expect(await findIndex(database, id)).toMatchObject({
    index_state: "failed",
    last_error: "An index of precision float32 allows at most 2000 dimensions, but the store has 2001.",
  });
  await pool.query("update vector_stores set precision = 'float16' where id = $1", [id]);
  await pool.query("update pgquiver_indexes set retry_at = null where vector_store_id = $1", [id]);
  await untilState(id, "ready");
  expect(await findIndex(database, id)).toMatchObject({ attempts: 0, last_error: null });
  await worker.stop();
});

test("puts an index off while rows are loaded, though not for ever", async () => {
  const id = await newStore(100);
  await pool.query(
    "insert into pgquiver_ingests (vector_store_id, ingest_id, parameters) values ($1, 'i', '{}')",
    [id],
  );
  const patient = startTestWorker(database, { thresholdBytes: 1, quietMs: 60_000, patienceMs: 600_000 });
  await vi.waitFor(async () => expect((await findIndex(database, id)).index_state).toBe("waiting"), 60_000);
  const other = await newStore(100);
  await untilState(other, "ready");
  expect(await findIndex(database, id)).toMatchObject({ index_state: "waiting", own_table: null });
  await patient.stop();
  startTestWorker(database, { thresholdBytes: 1, quietMs: 60_000, patienceMs: 1 });
  await untilState(id, "ready");
});
