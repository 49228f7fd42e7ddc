import pg from "pg";
import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import type { Removed } from "./embeddings.ts";
import { fitsReserve } from "./quotas.ts";
import type { FileCounts } from "./stores.ts";

const ACTIVE_NOW = `last_active_at = now(), expires_at = now() + (expires_after ->> 'days')::int * interval '1 day'`;

/** Increments of the file counts by status, negative to decrement; `total` is their sum. */
export type FileChange = Partial<Record<Exclude<keyof FileCounts, "total">, number>>;

/** A parameter of a statement by its number, such as "$1", or a literal in its place. */
type Parameter = (position: number) => string;

const numbered: Parameter = (position) => `$${position}`;

/** Values as literals in the place of parameters. */
function literals(values: readonly (string | number | null)[]): Parameter {
  const texts = values.map((value) => (value === null ? "null" : pg.escapeLiteral(String(value))));
  return (position) => texts[position - 1] as string;
}

function composeCounts(value: Parameter): string {
  const [bytes, rows, inProgress, completed, failed, cancelled] = [2, 3, 4, 5, 6, 7].map(
    (position) => `${value(position)}::bigint`,
  );
  return `
  usage_bytes = usage_bytes + ${bytes},
  embedding_count = embedding_count + ${rows},
  row_changes = row_changes + 1,
  file_counts = jsonb_build_object(
    'in_progress', (file_counts ->> 'in_progress')::bigint + ${inProgress},
    'completed', (file_counts ->> 'completed')::bigint + ${completed},
    'failed', (file_counts ->> 'failed')::bigint + ${failed},
    'cancelled', (file_counts ->> 'cancelled')::bigint + ${cancelled},
    'total', (file_counts ->> 'total')::bigint + ${inProgress} + ${completed} + ${failed} + ${cancelled})`;
}

const COUNTS = composeCounts(numbered);

/** The parameters 1 (the store's id) to 7 of `composeCounts`. */
function countValues(id: string, rows: number, bytes: number, files: FileChange): (string | number)[] {
  const { in_progress = 0, completed = 0, failed = 0, cancelled = 0 } = files;
  return [id, bytes, rows, in_progress, completed, failed, cancelled];
}

/**
 * Sets `last_active_at` of stores to now, and moves `expires_at` along. Skips stores that were already
 * updated within the current second (the API shows seconds), stores that have expired, and stores whose row
 * is locked (SKIP LOCKED): a search must not wait for an ingest.
 */
export async function updateLastActive(
  client: Queryable,
  tables: Tables,
  ids: readonly string[],
): Promise<void> {
  await client.query({
    name: "touch_stores",
    text: `update ${tables.vectorStores} set ${ACTIVE_NOW} where id in (
       select id from ${tables.vectorStores}
       where id = any($1::text[]) and coalesce(last_active_at < date_trunc('second', now()), true) and coalesce(expires_at > now(), true)
       for no key update skip locked)`,
    values: [ids],
  });
}

/** Rows added to a store, as far as they change the store's own row. */
export interface Addition {
  rows: number;
  /** UTF-8 bytes of the rows' text. */
  bytes: number;
  /** Increments of the file counts; default: each row counts as a completed file. */
  files?: FileChange;
  /** Dimensions of the rows' vectors. */
  dimensions: number;
  /** The model that the service embedded the texts with; null when every vector came from the caller. */
  embeddingModel: string | null;
}

/**
 * Adds inserted rows to the store's counters, and fixes the store's dimensions and model if they are unset.
 * Call it in the transaction that inserts the rows, as its last statement, because the UPDATE locks the
 * store's row until the commit. False when the store was deleted, has expired, has meanwhile been fixed to
 * other dimensions or another model, or has not reserved enough of its project's quota (`reserveQuota`): then the caller
 * must roll back.
 */
export async function countAddition(
  client: Queryable,
  tables: Tables,
  id: string,
  added: Addition,
): Promise<boolean> {
  const result = await client.query({
    name: "record_addition",
    text: composeAddition(tables, numbered),
    values: additionValues(id, added),
  });
  return result.rowCount === 1;
}

/**
 * The statement of `countAddition`, without parameters, to be sent with COMMIT: so the store's row is locked for no
 * round trip. Where `countAddition` returns false, the statement fails with division_by_zero, and nothing is committed.
 * `isBounded`: whether the project may have quotas, which take a tenth of a millisecond to plan.
 */
export function countAdditionStatement(
  tables: Tables,
  id: string,
  added: Addition,
  isBounded: boolean,
): string {
  const update = composeAddition(tables, literals(additionValues(id, added)), isBounded);
  return `with counted as (${update} returning 1) select 1 / count(*) from counted`;
}

function composeAddition(tables: Tables, value: Parameter, isBounded = true): string {
  const [dimensions, model] = [`${value(8)}::int`, `${value(9)}::text`];
  return `update ${tables.vectorStores} set ${composeCounts(value)}, ${ACTIVE_NOW},
      dimensions = coalesce(dimensions, ${dimensions}), embedding_model = coalesce(embedding_model, ${model})
    where id = ${value(1)} and coalesce(expires_at > now(), true)
      and coalesce(dimensions = ${dimensions}, true) and coalesce(embedding_model = ${model}, true)${isBounded ? ` and ${fitsReserve(tables, { rows: `${value(3)}::bigint`, bytes: `${value(2)}::bigint` })}` : ""}`;
}

function additionValues(id: string, added: Addition): (string | number | null)[] {
  return [
    ...countValues(id, added.rows, added.bytes, added.files ?? { completed: added.rows }),
    added.dimensions,
    added.embeddingModel,
  ];
}

/**
 * Locks a store's row until the transaction ends. Call it before deleting embeddings of the store: the
 * deletion of a store locks in that order too (store, then embeddings), and the reverse order would deadlock.
 * False when the store is gone.
 */
export async function lockStore(client: Queryable, tables: Tables, id: string): Promise<boolean> {
  const result = await client.query(`select 1 from ${tables.vectorStores} where id = $1 for no key update`, [
    id,
  ]);
  return result.rowCount === 1;
}

/**
 * Subtracts deleted rows from the store's counters; call it in the transaction that deletes the rows.
 * `files`: increments of the file counts; by default each deleted row that is no chunk of a file counted as a
 * completed file.
 */
export async function countRemoval(
  client: Queryable,
  tables: Tables,
  id: string,
  removed: Removed,
  files: FileChange = filesOf(removed),
): Promise<void> {
  await client.query(composeRemoval(tables, numbered), countValues(id, -removed.rows, -removed.bytes, files));
}

/** The statement of `countRemoval`, without parameters, to be sent with COMMIT. */
export function countRemovalStatement(tables: Tables, id: string, removed: Removed): string {
  const values = countValues(id, -removed.rows, -removed.bytes, filesOf(removed));
  return composeRemoval(tables, literals(values));
}

/**
 * The statement of `countRemoval` for rows that the same statement deletes: `removed` is the part of its WITH that has
 * them. $1 is the store's id.
 */
export function composeRemovalOf(tables: Tables, removed: string): string {
  const sum = (sql: string) => `(select ${sql} from ${removed})`;
  const counts = [
    "$1",
    sum("coalesce(-sum(bytes), 0)"),
    sum("-count(*)"),
    "0",
    sum("-count(*) filter (where not is_chunk)"),
    "0",
    "0",
  ];
  return composeRemoval(tables, (position) => counts[position - 1] as string);
}

function filesOf({ rows, chunks }: Removed): FileChange {
  return { completed: chunks - rows };
}

function composeRemoval(tables: Tables, value: Parameter): string {
  return `update ${tables.vectorStores} set ${composeCounts(value)} where id = ${value(1)}`;
}

/**
 * Adds attached files to the store's file counts; call it in the transaction that inserts their rows. False
 * when the store was deleted or has expired: then the caller must roll back.
 */
export async function countAttachment(
  client: Queryable,
  tables: Tables,
  id: string,
  files: FileChange,
): Promise<boolean> {
  const result = await client.query(
    `update ${tables.vectorStores} set ${COUNTS}, ${ACTIVE_NOW} where id = $1 and coalesce(expires_at > now(), true)`,
    countValues(id, 0, 0, files),
  );
  return result.rowCount === 1;
}

/**
 * Moves files from one status to another in the store's file counts; call it in the transaction that updates
 * their rows. With an empty `files` only `row_changes` is incremented, which tells replicas and caches that
 * the store's rows changed.
 */
export async function countTransition(
  client: Queryable,
  tables: Tables,
  id: string,
  files: FileChange,
): Promise<void> {
  await client.query(
    `update ${tables.vectorStores} set ${COUNTS} where id = $1`,
    countValues(id, 0, 0, files),
  );
}
