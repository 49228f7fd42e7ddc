import type { Queryable } from "../postgres/database.ts";
import { ofVisibleStore } from "../postgres/row-security/policies.ts";
import type { Tables } from "../postgres/tables.ts";
import { forgetWords } from "./words.ts";

/**
 * A row of an embeddings table; `embedding` is in pgvector's binary form, or null when the caller did not
 * request it.
 */
export interface EmbeddingRow {
  id: string;
  content: string;
  metadata: Record<string, unknown> | null;
  created_at: Date;
  embedding: Buffer | null;
  /** The file that the text is a chunk of; null: of none. */
  file_id: string | null;
  place: StoredPlace;
}

/**
 * Where a chunk stands in its file; null: the row is no chunk, or a version that did not know places has stored it, or its
 * text was replaced since.
 */
export type StoredPlace = {
  /** Indexes of its first character in the text of the file, and behind its last, in Unicode code points. */
  start: number;
  end: number;
  /** Numbers of the pages on which it begins and ends, from 1; absent: the format has none. */
  page?: number;
  lastPage?: number;
  /** The headings above its first character, the outermost first. */
  headings?: string[];
} | null;

/** Bytes of a row's place in a reply, as a SQL expression. */
export const PLACE_BYTES = "coalesce(octet_length(chunk_place::text), 0)";

/** The rows that a deletion removed. */
export interface Removed {
  rows: number;
  /** How many of the rows were chunks of files. */
  chunks: number;
  /** UTF-8 bytes of the rows' text. */
  bytes: number;
}

/** Adds parameters to a statement, whose first is the store's id, and returns a condition that its rows must meet. */
export type RowCondition = (tables: Tables, params: unknown[]) => string;

/** Reads one embedding with its vector; undefined when the store has no such id. */
export async function findEmbedding(
  client: Queryable,
  tables: Tables,
  storeId: string,
  id: string,
  condition?: RowCondition,
): Promise<EmbeddingRow | undefined> {
  const params: unknown[] = [storeId, id];
  const isVisible = condition === undefined ? "" : `and ${condition(tables, params)}`;
  const result = await client.query<EmbeddingRow>(
    `select ${columns(tables, true)} from only ${tables.embeddings}
      where ${tables.vectorStoreId} = ${ofVisibleStore(tables, "$1")} and ${tables.id} = $2 ${isVisible}`,
    params,
  );
  return result.rows[0];
}

/** The file that an embedding is a chunk of; null: of none. Undefined when the store has no such id. */
export async function findFileOf(
  client: Queryable,
  tables: Tables,
  storeId: string,
  id: string,
): Promise<string | null | undefined> {
  const result = await client.query<{ file_id: string | null }>(
    `select file_id from only ${tables.embeddings}
     where ${tables.vectorStoreId} = ${ofVisibleStore(tables, "$1")} and ${tables.id} = $2`,
    [storeId, id],
  );
  return result.rows[0]?.file_id;
}

/** New values of an embedding; what is undefined stays as it is. */
export interface EmbeddingChange {
  content?: string | undefined;
  /** In pgvector's binary form. */
  vector?: Buffer | undefined;
  /** A JSON object, as text. */
  metadata?: string | undefined;
  /** Keys of the metadata to set, as JSON text, and keys to remove. */
  merge?: { set: string; remove: readonly string[] } | undefined;
}

/** A changed embedding. */
export interface UpdatedEmbedding extends Omit<EmbeddingRow, "embedding"> {
  dimensions: number;
  /** By how many bytes the text grew; negative when it is shorter. */
  bytesAdded: number;
}

/**
 * Changes an embedding that is no chunk of a file, and returns it; undefined when there is none. The row is locked before
 * its old values are read, so of updates at the same time none is lost.
 */
export async function updateEmbedding(
  client: Queryable,
  tables: Tables,
  storeId: string,
  id: string,
  change: EmbeddingChange,
): Promise<UpdatedEmbedding | undefined> {
  const params: unknown[] = [storeId, id];
  const changes = [`${tables.id} = changed.${tables.id}`];
  if (change.content !== undefined) changes.push(`${tables.content} = $${params.push(change.content)}`);
  if (change.vector !== undefined) changes.push(`${tables.embedding} = $${params.push(change.vector)}`);
  if (change.metadata !== undefined)
    changes.push(`${tables.metadata} = $${params.push(change.metadata)}::jsonb`);
  if (change.merge !== undefined) {
    const [set, remove] = [params.push(change.merge.set), params.push(change.merge.remove)];
    const old = `case jsonb_typeof(changed.${tables.metadata}) when 'object' then changed.${tables.metadata} else '{}' end`;
    changes.push(`${tables.metadata} = (${old} || $${set}::jsonb) - $${remove}::text[]`);
  }
  const result = await client.query<Omit<EmbeddingRow, "embedding"> & { dimensions: number; added: number }>(
    `with old as materialized (
       select ${tables.id} as old_id, octet_length(${tables.content}) as old_bytes from only ${tables.embeddings}
       where ${tables.vectorStoreId} = $1 and ${tables.id} = $2 and file_id is null for no key update)
       ${change.content === undefined ? "" : forgetWords(tables, "$1", "select old_id from old")}
     update only ${tables.embeddings} as changed set ${changes.join(", ")}
     from old where changed.${tables.vectorStoreId} = $1 and changed.${tables.id} = old_id
     returning ${tables.id} as id, ${tables.content} as content, ${tables.metadata} as metadata,
       ${tables.createdAt} as created_at, file_id, chunk_place as place, vector_dims(${tables.embedding}) as dimensions,
       octet_length(${tables.content}) - old_bytes as added`,
    params,
  );
  const [row] = result.rows;
  if (row === undefined) return undefined;
  const { added, ...updated } = row;
  return { ...updated, bytesAdded: added };
}

/** Returns those of the ids that exist in a store, in ascending order. */
export async function findTakenIds(
  client: Queryable,
  tables: Tables,
  storeId: string,
  ids: readonly string[],
): Promise<string[]> {
  const result = await client.query<{ id: string }>(
    `select ${tables.id} as id from only ${tables.embeddings}
     where ${tables.vectorStoreId} = ${ofVisibleStore(tables, "$1")} and ${tables.id} = any($2::text[]) order by 1`,
    [storeId, ids],
  );
  return result.rows.map((row) => row.id);
}

/**
 * Reads a page of embeddings by keyset pagination on the id: at most `rowsMax`, strictly after `after` and
 * before `before` in the list's order. `backward` takes the last rows of the range, in reverse order. With
 * `bytesMax` it ends with the first row with which the page exceeds that many bytes.
 */
export async function listEmbeddings(
  client: Queryable,
  tables: Tables,
  storeId: string,
  page: {
    rowsMax: number;
    descending: boolean;
    backward: boolean;
    after?: string | undefined;
    before?: string | undefined;
    includeEmbedding: boolean;
    bytesMax?: number;
    condition?: RowCondition | undefined;
  },
): Promise<EmbeddingRow[]> {
  const params: unknown[] = [storeId];
  const conditions = [`${tables.vectorStoreId} = ${ofVisibleStore(tables, "$1")}`];
  if (page.after !== undefined)
    conditions.push(`${tables.id} ${page.descending ? "<" : ">"} $${params.push(page.after)}`);
  if (page.before !== undefined)
    conditions.push(`${tables.id} ${page.descending ? ">" : "<"} $${params.push(page.before)}`);
  if (page.condition !== undefined) conditions.push(page.condition(tables, params));
  const direction = page.descending === page.backward ? "asc" : "desc";
  const order = `order by ${tables.id} ${direction}`;
  const rows = `from only ${tables.embeddings} where ${conditions.join(" and ")} ${order} limit $${params.push(page.rowsMax)}`;
  const selected = columns(tables, page.includeEmbedding);
  if (page.bytesMax === undefined)
    return (await client.query<EmbeddingRow>(`select ${selected} ${rows}`, params)).rows;
  const result = await client.query<EmbeddingRow>(
    `select ${selected} from (
       select *, sum(${bytesOf(tables, page.includeEmbedding)}) over (${order} rows between unbounded preceding and 1 preceding)
         as preceding_page_bytes
       from (select * ${rows}) as page
     ) as page
     where preceding_page_bytes is null or preceding_page_bytes <= $${params.push(page.bytesMax)} ${order}`,
    params,
  );
  return result.rows;
}

/** The bytes of a row in a reply, as a SQL expression. Only metadata and the place must be read for it. */
function bytesOf(tables: Tables, withVector: boolean): string {
  return `octet_length(${tables.content}) + coalesce(octet_length(${tables.metadata}::text), 0) + ${PLACE_BYTES}
    ${withVector ? `+ coalesce(pg_column_size(${tables.embedding}), 0)` : ""}`;
}

/**
 * Deletes the embeddings of a store that match `condition`, a SQL expression over the embeddings table whose
 * parameters start at $2 ($1 is the store's id). Default: all of the store's embeddings.
 */
export async function deleteEmbeddings(
  client: Queryable,
  tables: Tables,
  storeId: string,
  condition = "true",
  params: readonly unknown[] = [],
): Promise<Removed> {
  const result = await client.query<Record<keyof Removed, string>>(
    `with removed as (
       delete from only ${tables.embeddings} where ${tables.vectorStoreId} = $1 and (${condition})
       returning ${tables.id} as removed_id, file_id, octet_length(${tables.content}) as bytes)
       ${forgetWords(tables, "$1", "select removed_id from removed")}
     select count(*) as rows, count(file_id) as chunks, coalesce(sum(bytes), 0) as bytes from removed`,
    [storeId, ...params],
  );
  const [removed] = result.rows;
  return { rows: Number(removed?.rows), chunks: Number(removed?.chunks), bytes: Number(removed?.bytes) };
}

/** Deletes embeddings of a store by id. `ids`: those that the store had. */
export async function deleteEmbeddingsById(
  client: Queryable,
  tables: Tables,
  storeId: string,
  ids: readonly string[],
): Promise<Removed & { ids: Set<string> }> {
  const { rows } = await client.query<{ id: string; is_chunk: boolean; bytes: number }>(
    `with ${deletionOf(tables)} select * from removed`,
    [storeId, ids],
  );
  return {
    ids: new Set(rows.map(({ id }) => id)),
    rows: rows.length,
    chunks: rows.filter(({ is_chunk }) => is_chunk).length,
    bytes: rows.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}

/** The part of a WITH that deletes rows by id, as `removed`; $1 is the store's id, $2 the ids. */
export function deletionOf(tables: Tables): string {
  return `removed as (
      delete from only ${tables.embeddings} where ${tables.vectorStoreId} = $1 and ${tables.id} = any($2::text[])
      returning ${tables.id} as id, file_id is not null as is_chunk, octet_length(${tables.content}) as bytes)
    ${forgetWords(tables, "$1", "select id from removed")}`;
}

function columns(tables: Tables, withVector: boolean): string {
  return `${tables.id} as id, ${tables.content} as content, ${tables.metadata} as metadata,
    ${tables.createdAt} as created_at, ${withVector ? `vector_send(${tables.embedding})` : "null"} as embedding, file_id,
    chunk_place as place`;
}
