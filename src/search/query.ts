import type { Queryable } from "../postgres/pool.ts";
import type { Tables } from "../postgres/tables.ts";
import { compileFilter, type Filter } from "./filter.ts";

/** A hit: the row and its score. */
export interface SearchHit {
  id: string;
  content: string;
  metadata: Record<string, unknown> | null;
  /** 0 to 1. */
  score: number;
}

export interface SearchQuery {
  storeId: string;
  /** pgvector's binary form, which spares both sides the conversion to text. */
  vector: Buffer;
  resultsMax: number;
  filter: Filter | undefined;
}

/**
 * Finds the rows of a store nearest to a vector by cosine distance, best first, ties by id. The
 * search is exact: it reads the store's rows through the primary key.
 */
export async function findNearest(
  client: Queryable,
  tables: Tables,
  query: SearchQuery,
): Promise<SearchHit[]> {
  const values: unknown[] = [query.storeId, query.vector, query.resultsMax];
  const condition =
    query.filter === undefined ? "" : `and ${compileFilter(query.filter, tables.metadata, values)}`;
  const text = `select ${tables.id} as id, ${tables.content} as content, ${tables.metadata} as metadata,
      ${tables.embedding} <=> $2::vector as distance
    from ${tables.embeddings} where ${tables.vectorStoreId} = $1 ${condition}
    order by distance, ${tables.id} limit $3`;
  // Filters come in any number of shapes; only the plain search is worth a prepared statement.
  const statement = query.filter === undefined ? { name: "find_nearest", text, values } : { text, values };
  const result = await client.query<Omit<SearchHit, "score"> & { distance: number }>(statement);
  return result.rows.map(({ distance, ...row }) => ({ ...row, score: toScore(distance) }));
}

/**
 * Similarity of a cosine distance (0 to 2), as litellm-pgvector defined it: 1 - d/2. Rounding can
 * put a distance just outside its range. A vector of zeros has no direction: its distance is NaN,
 * which Postgres sorts last, and its score is 0.
 */
export function toScore(distance: number): number {
  return Number.isNaN(distance) ? 0 : Math.min(1, Math.max(0, 1 - distance / 2));
}
