import { createRandom, makeVectors } from "../../../bench/support/random.ts";
import { promoteStore } from "../../../src/indexes/worker.ts";
import { CopyEncoder, copyRows } from "../../../src/postgres/copy.ts";
import type { Database } from "../../../src/postgres/database.ts";
import type { Precision } from "../../../src/postgres/vector-index.ts";
import type { SearchQuery } from "../../../src/search/query.ts";
import { findStore, type VectorStoreRow } from "../../../src/storage/stores.ts";
import { TEST_INDEXES } from "./index-store.ts";

/** A store to search, with clustered pseudo-random vectors; equal options give equal vectors. */
export interface SearchStoreOptions {
  rows: number;
  dimensions: number;
  /** Default: no metadata. */
  metadata?: (row: number) => Record<string, unknown>;
  /** Default: "text" and the row's number. */
  content?: (row: number) => string;
  /** Precision of the store's index; undefined: the store stays in the shared table, without an index. */
  precision?: Precision;
  /** Number of clusters of the vectors; default 20. */
  clusters?: number;
  /** Number of additional vectors to search for, which are not in the store; default 20. */
  queries?: number;
}

/**
 * Creates a store with rows `r0000000`, `r0000001`, ...; resolves to the store's row, the rows' vectors, and
 * vectors to search for.
 */
export async function makeSearchStore(
  database: Database,
  id: string,
  { rows, dimensions, metadata, content, precision, clusters = 20, queries = 20 }: SearchStoreOptions,
): Promise<{ store: VectorStoreRow; vectors: Float32Array[]; queries: Float32Array[] }> {
  const { pool, tables } = database;
  const made = makeVectors(createRandom(rows + dimensions), rows + queries, { dimensions, clusters });
  const vectors = made.map((vector) => Float32Array.from(vector));
  await pool.query(
    `insert into vector_stores (id, dimensions, embedding_count, precision) values ($1, $2, $3, $4)`,
    [id, dimensions, rows, precision ?? null],
  );
  const encoder = new CopyEncoder();
  for (let row = 0; row < rows; row++) {
    encoder.startRow(6);
    encoder.text(id);
    encoder.text(nameRow(row));
    encoder.text(content?.(row) ?? `text ${row}`);
    encoder.vector(vectors[row] as Float32Array);
    encoder.jsonb(JSON.stringify(metadata?.(row) ?? {}));
    encoder.timestamptz(new Date());
  }
  const client = await pool.connect();
  try {
    await copyRows(
      client,
      "copy embeddings (vector_store_id, id, content, embedding, metadata, created_at) from stdin (format binary)",
      encoder.takeSegment(),
    );
  } finally {
    client.release();
  }
  if (precision !== undefined) await promoteStore(database, id, { ...TEST_INDEXES, workers: 1 });
  const store = (await findStore(pool, tables, id)) as VectorStoreRow;
  return { store, vectors: vectors.slice(0, rows), queries: vectors.slice(rows) };
}

/** The id of a row. */
export function nameRow(row: number): string {
  return `r${String(row).padStart(7, "0")}`;
}

/** A query for ten results without a vector or keywords; `query` overrides its fields. */
export function makeQuery(query: Partial<SearchQuery>): SearchQuery {
  return {
    vector: undefined,
    fusion: undefined,
    resultsMax: 10,
    filter: undefined,
    isExact: false,
    efSearch: undefined,
    ...query,
  };
}
