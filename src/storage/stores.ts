import pg from "pg";
import type { Queryable } from "../postgres/database.ts";
import { composePage, type KeysetPage, type Position } from "../postgres/keyset.ts";
import type { Tables } from "../postgres/tables.ts";
import type { Precision } from "../postgres/vector-index.ts";
import { projectOf, storedId, type StoreOwner } from "../store-id.ts";

/** A row of `vector_stores`. */
export interface VectorStoreRow {
  id: string;
  name: string | null;
  description: string | null;
  metadata: Record<string, unknown> | null;
  /** UTF-8 bytes of the store's texts: a bigint, as decimal text. */
  usage_bytes: string;
  file_counts: FileCounts;
  created_at: Date;
  expires_after: ExpiresAfter | null;
  expires_at: Date | null;
  last_active_at: Date | null;
  dimensions: number | null;
  embedding_model: string | null;
  /** Rows of the store: a bigint, as decimal text. */
  embedding_count: string;
  /** The requested precision of the store's index; null: chosen by the dimensions (`defaultPrecision`). */
  precision: Precision | null;
  /** Text search configuration; null: the service's default. */
  language: string | null;
  index_policy: "auto" | "always" | "never";
  index_state: "none" | "waiting" | "moving" | "building" | "ready" | "failed";
  /** The table that holds the store's rows, not quoted; null: the shared one. */
  own_table: string | null;
  /** Whether that table has the column `content_tsvector`; of no meaning without one. */
  has_words: boolean;
  /** Precision of the index that searches use; null: no index, searches are exact. */
  index_precision: Precision | null;
  /** `hnsw.ef_search` of searches without and with a filter, as tuned for the recall asked; null: the session's. */
  ef_search: number | null;
  filtered_ef_search: number | null;
  /** Whether callers with readers see only the rows that name one of them. */
  restricts_readers: boolean;
  /** Whether `expires_at` has passed on the database's clock. */
  expired: boolean;
}

/**
 * The fields of a store's row that a search depends on. They may be cached: each search compares them with
 * the row.
 */
export type SearchedStore = Pick<
  VectorStoreRow,
  | "id"
  | "dimensions"
  | "embedding_model"
  | "language"
  | "own_table"
  | "has_words"
  | "index_precision"
  | "ef_search"
  | "filtered_ef_search"
  | "restricts_readers"
>;

export interface FileCounts {
  in_progress: number;
  completed: number;
  failed: number;
  cancelled: number;
  total: number;
}

export interface ExpiresAfter {
  anchor: "last_active_at";
  days: number;
}

/** The values of a store to be inserted. */
export interface NewVectorStore {
  id: string;
  createdAt: Date;
  name: string | null;
  description: string | null;
  metadata: Record<string, string>;
  expiresAfter: ExpiresAfter | null;
  dimensions: number | null;
  precision: Precision | null;
  language: string | null;
  restrictsReaders: boolean;
}

/** The fields an update may change; absent keys stay as they are, null clears. */
export interface VectorStoreChange {
  name?: string | null;
  metadata?: Record<string, string>;
  expiresAfter?: ExpiresAfter | null;
  restrictsReaders?: boolean;
}

const COLUMNS = `id, name, description, metadata, usage_bytes, file_counts, created_at, expires_after, expires_at,
  last_active_at, dimensions, embedding_model, embedding_count, precision, language, index_policy, index_state, own_table,
  has_words, index_precision, ef_search, filtered_ef_search, restricts_readers, coalesce(expires_at <= now(), false) as expired`;

/** Inserts a store and returns its row; undefined when the id is taken. */
export async function insertStore(
  client: Queryable,
  tables: Tables,
  store: NewVectorStore,
): Promise<VectorStoreRow | undefined> {
  const result = await client.query<VectorStoreRow>(
    `insert into ${tables.vectorStores} (id, name, description, metadata, created_at, last_active_at, expires_after, expires_at, dimensions, precision, language, project_id, restricts_readers)
     values ($1, $2, $3, $4::jsonb, $5::timestamptz, $5::timestamptz, $6::jsonb, $5::timestamptz + ($6::jsonb ->> 'days')::int * interval '1 day', $7, $8, $9, $10, $11)
     on conflict (id) do nothing
     returning ${COLUMNS}`,
    [
      store.id,
      store.name,
      store.description,
      JSON.stringify(store.metadata),
      store.createdAt,
      store.expiresAfter === null ? null : JSON.stringify(store.expiresAfter),
      store.dimensions,
      store.precision,
      store.language,
      projectOf(store.id),
      store.restrictsReaders,
    ],
  );
  return result.rows[0];
}

/** Reads a store; undefined when it does not exist. */
export async function findStore(
  client: Queryable,
  tables: Tables,
  id: string,
): Promise<VectorStoreRow | undefined> {
  const result = await client.query<VectorStoreRow>({
    name: "find_store",
    text: storeStatement(tables, "$1"),
    values: [id],
  });
  return result.rows[0];
}

/** The statement of `findStore`, without parameters, and with one more column. */
export function findStoreStatement(tables: Tables, id: string, column: string): string {
  return storeStatement(tables, pg.escapeLiteral(id), `${COLUMNS}, ${column}`);
}

function storeStatement(tables: Tables, id: string, columns = COLUMNS): string {
  return `select ${columns} from ${tables.vectorStores} where id = ${id}`;
}

/** Reads a store's pagination cursor in the list of stores; undefined when the store does not exist. */
export async function findStorePosition(
  client: Queryable,
  tables: Tables,
  id: string,
): Promise<Position | undefined> {
  const result = await client.query<Position>(
    `select created_at::text as created_at, id from ${tables.vectorStores} where id = $1`,
    [id],
  );
  return result.rows[0];
}

/** Reads a page of an owner's stores by keyset pagination; a `backward` page comes in reverse order. */
export async function listStores(
  client: Queryable,
  tables: Tables,
  owner: StoreOwner,
  page: KeysetPage,
): Promise<VectorStoreRow[]> {
  const params: unknown[] = [owner.project];
  const { conditions, ending } = composePage(page, "id", params);
  if (owner.storeIds !== undefined) {
    const ids = [...owner.storeIds].map((id) => storedId(owner, id));
    conditions.push(`id = any($${params.push(ids)}::text[])`);
  }
  const result = await client.query<VectorStoreRow>(
    `select ${COLUMNS} from ${tables.vectorStores}
     where ${["project_id = $1", ...conditions].join(" and ")} ${ending}`,
    params,
  );
  return result.rows;
}

/**
 * Updates a store and returns its row; undefined when it does not exist or has expired. A new `expiresAfter`
 * recomputes `expires_at` from `last_active_at`; the update itself does not count as activity.
 */
export async function updateStore(
  client: Queryable,
  tables: Tables,
  id: string,
  change: VectorStoreChange,
): Promise<VectorStoreRow | undefined> {
  const params: unknown[] = [id];
  const changes = ["id = id"];
  if (change.name !== undefined) changes.push(`name = $${params.push(change.name)}`);
  if (change.metadata !== undefined)
    changes.push(`metadata = $${params.push(JSON.stringify(change.metadata))}::jsonb`);
  if (change.restrictsReaders !== undefined)
    changes.push(`restricts_readers = $${params.push(change.restrictsReaders)}`);
  if (change.expiresAfter !== undefined) {
    const days = `$${params.push(change.expiresAfter?.days ?? null)}::int`;
    changes.push(
      `expires_after = $${params.push(change.expiresAfter === null ? null : JSON.stringify(change.expiresAfter))}::jsonb`,
      `last_active_at = coalesce(last_active_at, created_at)`,
      `expires_at = coalesce(last_active_at, created_at) + ${days} * interval '1 day'`,
    );
  }
  const result = await client.query<VectorStoreRow>(
    `update ${tables.vectorStores} set ${changes.join(", ")}
     where id = $1 and coalesce(expires_at > now(), true)
     returning ${COLUMNS}`,
    params,
  );
  return result.rows[0];
}

/** Deletes a store's row, before its embeddings (lock order: store first); false when it does not exist. */
export async function deleteStore(client: Queryable, tables: Tables, id: string): Promise<boolean> {
  const result = await client.query(`delete from ${tables.vectorStores} where id = $1`, [id]);
  return result.rowCount === 1;
}
