import type { Database } from "../../../src/postgres/database.ts";
import { promoteStore } from "../../../src/indexes/worker.ts";
import { TEST_INDEXES } from "./index-store.ts";

const ROWS = 3_000;
const DIMENSIONS = 48;
const QUERIES = 6;

/**
 * Makes a store with an index in which the nearest rows are hard to find, so that an `ef_search` of 1 misses some. Returns
 * queries: several, because it does not miss some for each of them.
 */
export async function makeHardStore(database: Database, id: string): Promise<number[][]> {
  const { pool } = database;
  await pool.query(
    "insert into vector_stores (id, dimensions, embedding_count, precision) values ($1, $2, $3, 'float32')",
    [id, DIMENSIONS, ROWS],
  );
  // A sequence of its own in each vector.
  await pool.query(
    `insert into embeddings (vector_store_id, id, content, embedding, metadata)
     select $1, 'e' || n, 'text ' || n, (select array_agg(sin(n * 12.9898 + d * 78.233 + n * d)) from generate_series(1, $2) as d)::vector, '{}'
     from generate_series(1, $3) as n`,
    [id, DIMENSIONS, ROWS],
  );
  await promoteStore(database, id, TEST_INDEXES);
  return Array.from({ length: QUERIES }, (_query, n) =>
    Array.from({ length: DIMENSIONS }, (_, d) => Math.sin(d * d + n)),
  );
}
