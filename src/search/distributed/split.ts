import type pg from "pg";
import type { Client } from "../../postgres/database.ts";
import { queryWithSettings, type Settings } from "../../postgres/protocol/with-settings.ts";
import type { Tables } from "../../postgres/tables.ts";
import { cancellable } from "../../postgres/transaction.ts";
import type { SearchedStore } from "../../storage/stores.ts";
import type { SearchQuery } from "../query.ts";
import type { FoundRow, Statement } from "../statement.ts";
import type { CheckRow, SplitSearch } from "./split-statement.ts";

/** Runs one statement of a search under settings. */
export async function find(client: Client, statement: Statement, settings: Settings): Promise<FoundRow[]> {
  // Settings are sent behind a PgBouncer, where no statement may have a name, or with the rare search that they bound.
  const { text, values } = statement;
  const isPlain = Object.keys(settings).length === 0;
  const { rows } = isPlain
    ? await client.query<FoundRow>(statement)
    : await queryWithSettings<FoundRow>(client, { text, values }, settings);
  return rows;
}

/** Runs the two statements of a split search, with rows as those of `composeSearch`. */
export async function runSplit(
  client: Client,
  { hits, check }: SplitSearch,
  settings: Settings,
): Promise<FoundRow[]> {
  const found = await find(client, hits, settings);
  return joinCheck(found, await runCheck(client, check, found));
}

/** Runs the check of a split search; undefined: the store is deleted. */
export async function runCheck(
  client: Client,
  check: SplitSearch["check"],
  found: readonly FoundRow[],
): Promise<CheckRow | undefined> {
  const fileIds = found.map((row) => row.file_id).filter((id) => id !== null);
  const { rows } = await client.query<CheckRow>(check(fileIds));
  return rows[0];
}

/** Gives a search by the words of an own table on another node the number of the store's rows; 0: the store is deleted. */
export async function addStoreRows(
  pool: pg.Pool,
  tables: Tables,
  store: SearchedStore,
  query: SearchQuery,
  signal: AbortSignal,
): Promise<SearchQuery> {
  if (query.fusion?.keywords === undefined || !store.has_words) return query;
  const count = {
    name: "count_store_rows",
    text: `select embedding_count::float8 as rows from ${tables.vectorStores} where id = $1`,
    values: [store.id],
  };
  const { rows } = await cancellable(pool, signal, (client) => client.query<{ rows: number }>(count));
  return { ...query, storeRows: rows[0]?.rows ?? 0 };
}

/** The rows of a search by one statement, made of those of two. */
export function joinCheck(found: readonly FoundRow[], store: CheckRow | undefined): FoundRow[] {
  if (store === undefined) return [];
  const { filenames, is_placed: _, ...checked } = store;
  if (found.length === 0) return [{ ...checked, id: null } as FoundRow];
  return found.map((row) => ({ ...row, ...checked, filename: filenames?.[row.file_id ?? ""] ?? null }));
}

/**
 * Composes the statement that reads the vectors of hits from an own table on another node, whose rows a subquery cannot join
 * to the local row of the store.
 */
export function composeVectors(tables: Tables, storeId: string, ids: readonly (string | null)[]): Statement {
  return {
    text: `select ${tables.id} as id, vector_send(${tables.embedding}) as vector from only ${tables.embeddings}
      where ${tables.vectorStoreId} = $1 and ${tables.id} = any($2::text[])`,
    values: [storeId, ids],
  };
}

/** Adds the vectors of hits that are on another node; null for a row that was deleted meanwhile. */
export async function addVectors(
  client: Client,
  found: readonly FoundRow[],
  vectorsOf: (ids: (string | null)[]) => Statement,
): Promise<FoundRow[]> {
  const { rows } = await client.query<{ id: string; vector: Buffer }>(vectorsOf(found.map(({ id }) => id)));
  const vectors = new Map(rows.map(({ id, vector }) => [id, vector]));
  return found.map((row) => ({ ...row, vector: vectors.get(row.id ?? "") ?? null }));
}
