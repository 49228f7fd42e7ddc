import { onTestFinished } from "vitest";
import { startIndexWorker, type IndexOptions, type IndexWorker } from "../../../src/indexes/worker.ts";
import { isDistributed } from "../../../src/postgres/citus/cluster.ts";
import type { Database } from "../../../src/postgres/database.ts";

/** Options of the index worker in tests: no delays, little memory. */
export const TEST_INDEXES: IndexOptions = {
  thresholdBytes: 0,
  shardBytes: 0,
  quietMs: 0,
  patienceMs: 0,
  pollMs: 20,
  memoryBytes: 64 * 1024 * 1024,
  workers: 0,
  language: "english",
};

/** Starts an index worker that ends with the test, and collects its errors. */
export function startTestWorker(
  database: Database,
  options: Partial<IndexOptions> = {},
): IndexWorker & { errors: unknown[] } {
  const errors: unknown[] = [];
  const worker = startIndexWorker(database, { ...TEST_INDEXES, ...options }, (error) => errors.push(error));
  onTestFinished(worker.stop);
  return { ...worker, errors };
}

/** Sets a store's index policy by SQL, and makes the store due for the worker. */
export async function setPolicy({ pool }: Database, id: string, policy: string): Promise<void> {
  await pool.query("update vector_stores set index_policy = $2 where id = $1", [id, policy]);
  await pool.query("update pgquiver_indexes set due = true, retry_at = null where vector_store_id = $1", [
    id,
  ]);
}

/** Inserts a store by SQL, with rows `e1`, `e2`, ..., vectors of three dimensions, and correct counts. */
export async function seedStore({ pool }: Database, id: string, rows: number): Promise<void> {
  await pool.query(
    `insert into vector_stores (id, dimensions, embedding_count, usage_bytes, file_counts)
     select $1, 3, $2::int, coalesce(sum(octet_length('text ' || n)), 0),
       jsonb_build_object('in_progress', 0, 'failed', 0, 'cancelled', 0, 'completed', $2::int, 'total', $2::int)
     from generate_series(1, $2::int) as n`,
    [id, rows],
  );
  await pool.query(
    `insert into embeddings (vector_store_id, id, content, embedding, metadata)
     select $1, 'e' || n, 'text ' || n, array[n % 97 + 1, n % 89, n % 83]::vector, jsonb_build_object('n', n)
     from generate_series(1, $2::int) as n`,
    [id, rows],
  );
}

/** What SQL over the rows of all stores selects from: on a Citus cluster the view that unites their tables. */
export function allEmbeddings({ citus }: Database): string {
  return citus === undefined ? "embeddings" : "all_embeddings";
}

/** Counts a store's rows by table; a row that is in two tables is counted twice. */
export async function countByTable(database: Database, storeId: string): Promise<Record<string, number>> {
  const { pool } = database;
  const { rows } = await pool.query<{ name: string; count: number }>(
    "select tableoid::regclass::text as name, count(*)::int as count from embeddings where vector_store_id = $1 group by 1",
    [storeId],
  );
  // A distributed table is no child of the shared one.
  const { own_table: own } = await findIndex(database, storeId);
  if (await isDistributed(pool, database, own)) {
    const counted = await pool.query<{ count: number }>(`select count(*)::int as count from "${own}"`);
    const count = counted.rows[0]?.count ?? 0;
    // As the grouping above, which has no row for an empty table.
    if (count > 0) rows.push({ name: String(own), count });
  }
  return Object.fromEntries(rows.map(({ name, count }) => [name, count]));
}

/** Reads the state of a store's index from the database. */
export async function findIndex(
  { pool }: Database,
  storeId: string,
): Promise<{
  index_state: string;
  index_policy: string;
  index_precision: string | null;
  own_table: string | null;
  language: string | null;
  last_error: string | null;
  attempts: number;
  due: boolean;
}> {
  const { rows } = await pool.query(
    `select index_state, index_policy, index_precision, store.own_table, language, last_error, attempts, due
     from vector_stores as store left join pgquiver_indexes as plan on plan.vector_store_id = store.id where store.id = $1`,
    [storeId],
  );
  return rows[0];
}

/**
 * Lists all own tables and vector indexes that exist in Postgres, invalid indexes marked, even if the
 * service's catalog does not have them.
 */
export async function findLeftovers({ pool }: Database): Promise<{ tables: string[]; indexes: string[] }> {
  const { rows: tables } = await pool.query<{ name: string }>(
    "select relname as name from pg_class where relkind = 'r' and relname ~ '^embeddings_[0-9]+$' order by 1",
  );
  const { rows: indexes } = await pool.query<{ name: string }>(
    `select relname || case when indisvalid then '' else ' (invalid)' end as name
     from pg_index join pg_class on pg_class.oid = indexrelid where relname ~ '_hnsw_' order by 1`,
  );
  return { tables: tables.map(({ name }) => name), indexes: indexes.map(({ name }) => name) };
}
