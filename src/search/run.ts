import pg from "pg";
import { placeTables, type Tables } from "../postgres/tables.ts";
import { cancellable, transaction } from "../postgres/transaction.ts";
import type { VectorIndex } from "./nearest.ts";
import type { SearchedStore, SearchHit, SearchQuery } from "./query.ts";
import { composeSearch, type FoundRow, type Statement } from "./statement.ts";

/** What a search found, and how. */
export interface Findings {
  hits: SearchHit[];
  method: "exact" | "index" | "keyword";
  /** Whether there are as many hits as were asked for, or as match. */
  isComplete: boolean;
}

/** What was found, or why nothing was: the store is not as it was taken to be, and "gone" or "expired" when it is that. */
export type Outcome = Findings | "stale" | "gone" | "expired";

/** Where and with what patience to search. */
export interface Searching {
  pool: pg.Pool;
  /** Settings of the session that the pool's connections do not have by themselves; see `Database`. */
  settings: Settings;
  /** How long an exact search may take that makes up for what an index did not give. The embedded database does not enforce it. */
  exactTimeoutMs: number;
}

/** Values of Postgres's settings by name; text must be fit for SQL as it is. */
export type Settings = Record<string, string | number>;

/**
 * Searches a store. Finds min(resultsMax, matching rows): where an index gives fewer, also to a fusion, every row that
 * matches is compared. When that takes too long, the hits are what there is, and not complete; without any the search fails.
 */
export async function searchStore(
  { pool, settings, exactTimeoutMs }: Searching,
  tables: Tables,
  store: SearchedStore,
  query: SearchQuery,
  signal: AbortSignal,
): Promise<Outcome> {
  const placed = placeTables(tables, store);
  const index = query.isExact || query.vector === undefined ? undefined : indexOf(store);
  const run = async (by: VectorIndex | undefined, own: Settings) => {
    const statement = composeSearch(placed, store, query, by);
    return runStatement(pool, statement, { ...settings, ...own }, signal);
  };
  const tuned: Settings = query.efSearch === undefined ? {} : { "hnsw.ef_search": query.efSearch };
  const rows = await run(index, index === undefined ? {} : tuned);
  if (typeof rows === "string") return rows;
  const hits = rows.map((row) => toHit(row, query));
  const method = query.vector === undefined ? "keyword" : "exact";
  if (index === undefined) return { hits, method, isComplete: true };
  // Of a fusion the search by keywords may have given all the hits, and that by vector none.
  const isShort = query.fusion === undefined ? hits.length < query.resultsMax : (rows[0]?.is_short ?? true);
  if (!isShort) return { hits, method: "index", isComplete: true };
  try {
    const all = await run(undefined, { statement_timeout: exactTimeoutMs });
    if (typeof all === "string") return all;
    return { hits: all.map((row) => toHit(row, query)), method, isComplete: true };
  } catch (error) {
    if (hits.length === 0 || !isTimeout(error)) throw error;
    return { hits, method: "index", isComplete: false };
  }
}

function indexOf({ own_table, index_precision, dimensions }: SearchedStore): VectorIndex | undefined {
  if (own_table === null || index_precision === null || dimensions === null) return undefined;
  return { precision: index_precision, dimensions };
}

async function runStatement(
  pool: pg.Pool,
  statement: Statement,
  settings: Settings,
  signal: AbortSignal,
): Promise<FoundRow[] | Exclude<Outcome, Findings>> {
  const query = async (client: pg.PoolClient) => (await client.query<FoundRow>(statement)).rows;
  const entries = Object.entries(settings);
  try {
    const rows = await (entries.length === 0
      ? cancellable(pool, signal, query)
      : transaction(
          pool,
          async (client) => {
            await client.query(entries.map(([name, value]) => `set local ${name} = ${value}`).join("; "));
            return query(client);
          },
          signal,
        ));
    const [first] = rows;
    if (first === undefined) return "gone";
    if (first.has_expired) return "expired";
    if (!first.is_current) return "stale";
    return first.id === null ? [] : rows;
  } catch (error) {
    if (isSignOfChange(error)) return "stale";
    throw error;
  }
}

/** Postgres's words for a table that is gone, and for vectors of other dimensions than there used to be. */
function isSignOfChange(error: unknown): boolean {
  return error instanceof pg.DatabaseError && (error.code === "42P01" || error.code === "22000");
}

/** query_canceled, also by statement_timeout. */
function isTimeout(error: unknown): boolean {
  return error instanceof pg.DatabaseError && error.code === "57014";
}

function toHit({ value, id, content, metadata, file_id, filename }: FoundRow, query: SearchQuery): SearchHit {
  const score = query.fusion === undefined ? toScore(value) : Math.min(1, value);
  return { id: id as string, content, metadata, file_id, filename, score };
}

/**
 * Similarity of a cosine distance (0 to 2), as litellm-pgvector defined it: 1 - d/2. Rounding can
 * put a distance just outside its range. A vector of zeros has no direction: its distance is NaN,
 * which Postgres sorts last, and its score is 0.
 */
export function toScore(distance: number): number {
  return Number.isNaN(distance) ? 0 : Math.min(1, Math.max(0, 1 - distance / 2));
}
