import { bulkTurn } from "../api/concurrency/bulk-turns.ts";
import type { Client, Database } from "../postgres/database.ts";
import {
  isDivisionByZero,
  isLockTimeout,
  isStatementFault,
  isUndefinedTable,
  isUniqueViolation,
} from "../postgres/errors.ts";
import type { Tables } from "../postgres/tables.ts";
import { countAdditionStatement, type Addition } from "../storage/counts.ts";
import { reserveQuota } from "../storage/quotas.ts";
import { writeKnownStore, writeStoreFramed, type OpenedStore } from "../storage/placement.ts";
import type { VectorStoreRow } from "../storage/stores.ts";
import { explainRefusal } from "./count.ts";
import { insertRows } from "./insert.ts";
import type { Row } from "./row.ts";
import { insertAbsent, insertStatement } from "./upsert.ts";

/** The rows of one request, validated and with their vectors. Either all are inserted or none. */
export interface Insertion {
  /** At least one. All vectors have the same dimensions once `check` has passed. */
  rows: readonly Row[];
  /** The model with which the service embedded texts of the rows; null: with none. */
  embeddingModel: string | null;
  /** The field that determines the first row's vector. */
  vectorParam: string;
  /** Throws the reason why the store does not accept the rows. */
  check(store: VectorStoreRow): void;
}

/** Rows and bytes up to which an insertion is small: small ones are inserted together with others. */
const SMALL_ROWS = 16;
const SMALL_BYTES = 128 * 1024;

/** Whether an insertion may share a transaction: the others should not wait for a large one. */
export function isSmall({ rows }: Insertion): boolean {
  return rows.length <= SMALL_ROWS && bytesOf(rows) <= SMALL_BYTES;
}

/** Bytes of the rows, about. */
export function bytesOf(rows: readonly Row[]): number {
  return rows.reduce(
    (sum, row) => sum + row.contentBytes + row.vector.byteLength + row.metadata.length * 3,
    0,
  );
}

/** Dimensions of the vectors. */
export function dimensionsOf({ rows }: Insertion): number {
  return (rows[0] as Row).vector.byteLength / 4;
}

/** Some ids of an insertion are taken and some are not: what was inserted must be rolled back. */
export class PartlyTaken extends Error {}

/** The store was deleted, has expired, or was fixed to other dimensions or another model during the transaction. */
export class StoreChanged extends Error {}

/** Options of the transaction; see `writeStoreFramed`. */
export interface WriteOptions {
  lockTimeoutMs?: number;
  signal: AbortSignal;
  /** Whether the store's project may have quotas at this moment. */
  mayHaveQuotas: () => boolean;
}

/**
 * Inserts small insertions into a store and counts them, in one transaction of three round trips. `choose` gets the
 * store's row, and returns the insertions, whose ids must be distinct and whose dimensions equal. Returns those of which
 * no row was inserted, because their ids are taken; the others are committed. Throws PartlyTaken, StoreChanged, NOT_FOUND
 * or the database's error: then nothing is committed.
 */
export async function insertTogether(
  { pool, tables }: Database,
  storeId: string,
  choose: (store: OpenedStore) => readonly Insertion[],
  options: WriteOptions,
): Promise<ReadonlySet<Insertion>> {
  return reservingLater(async (reserve) => {
    const write = async (client: Client, placed: Tables, store: OpenedStore) => {
      const insertions = choose(store);
      const taken = await insertAll(client, placed, store, insertions);
      const added = insertions.filter((insertion) => !taken.has(insertion));
      if (added.length === 0) return { result: taken };
      const addition = sum(added);
      await reserve?.(client, tables, storeId, addition);
      const isBounded = reserve !== undefined || options.mayHaveQuotas();
      return { result: taken, closing: countAdditionStatement(tables, storeId, addition, isBounded) };
    };
    return writeStoreFramed(pool, tables, storeId, write, options);
  });
}

/**
 * Runs a transaction that counts rows by its closing statement; when that refuses them, once more, with `reserve` taking
 * of the project's quota. So writers whose store has reserved enough, and those of projects without a quota, have no
 * statement more. Throws StoreChanged, and INSUFFICIENT_QUOTA.
 */
export async function reservingLater<T>(
  run: (reserve: typeof reserveQuota | undefined) => Promise<T>,
): Promise<T> {
  try {
    return await run(undefined);
  } catch (error) {
    if (!isDivisionByZero(error)) throw error;
  }
  try {
    return await run(reserveQuota);
  } catch (error) {
    throw isDivisionByZero(error) ? new StoreChanged("The store has changed.", { cause: error }) : error;
  }
}

/**
 * As `insertTogether`, in one round trip, for a store that is `known` from an earlier transaction. False when nothing was
 * committed, because the store has changed since, does not accept an insertion or has one of the ids: which of them,
 * `insertTogether` tells. Throws the database's error otherwise.
 */
export async function insertAtOnce(
  { pool, tables }: Database,
  known: OpenedStore,
  choose: () => readonly Insertion[],
  options: WriteOptions & { lockTimeoutMs: number },
): Promise<boolean> {
  let isRefused = false;
  const compose = (placed: Tables) => {
    const insertions = choose();
    isRefused = !insertions.every((insertion) => isAccepted(insertion, known));
    if (isRefused || insertions.length === 0) return [];
    const rows = insertions.flatMap((insertion) => insertion.rows);
    return [
      insertStatement(placed, known.id, rows, known.vector_oid),
      {
        text: countAdditionStatement(tables, known.id, sum(insertions), options.mayHaveQuotas()),
        values: [],
      },
    ];
  };
  try {
    await writeKnownStore(pool, tables, known, compose, options);
    return !isRefused;
  } catch (error) {
    if (isLockTimeout(error) || !(isStatementFault(error) || isUndefinedTable(error))) throw error;
    return false;
  }
}

function isAccepted(insertion: Insertion, store: VectorStoreRow): boolean {
  try {
    insertion.check(store);
    return true;
  } catch {
    return false;
  }
}

/** Inserts one insertion in a transaction of its own; false when an id is taken. Throws as the RPC does. */
export async function insertAlone(
  database: Database,
  storeId: string,
  insertion: Insertion,
  options: WriteOptions,
): Promise<boolean> {
  const { pool, tables } = database;
  try {
    if (isSmall(insertion)) {
      const choose = (store: VectorStoreRow) => {
        insertion.check(store);
        return [insertion];
      };
      const taken = await insertTogether(database, storeId, choose, options);
      return !taken.has(insertion);
    }
    await copyIn(database, storeId, insertion, options);
    return true;
  } catch (error) {
    if (error instanceof PartlyTaken || isUniqueViolation(error)) return false;
    if (!(error instanceof StoreChanged)) throw error;
    const added = sum([insertion]);
    throw await explainRefusal(pool, tables, storeId, added, insertion.vectorParam);
  }
}

/** Inserts by COPY. Throws Postgres' unique violation when an id is taken. */
async function copyIn(
  { pool, tables, kind }: Database,
  storeId: string,
  insertion: Insertion,
  options: WriteOptions,
): Promise<void> {
  const addition = sum([insertion]);
  await reservingLater(async (reserve) => {
    const write = async (client: Client, placed: Tables, store: OpenedStore) => {
      insertion.check(store);
      await insertRows(client, placed, kind, storeId, insertion.rows, bulkTurn);
      await reserve?.(client, tables, storeId, addition);
      const isBounded = reserve !== undefined || options.mayHaveQuotas();
      return { result: undefined, closing: countAdditionStatement(tables, storeId, addition, isBounded) };
    };
    await writeStoreFramed(pool, tables, storeId, write, options);
  });
}

async function insertAll(
  client: Client,
  placed: Tables,
  store: OpenedStore,
  insertions: readonly Insertion[],
): Promise<Set<Insertion>> {
  const taken = new Set<Insertion>();
  const rows = insertions.flatMap((insertion) => insertion.rows);
  if (rows.length === 0) return taken;
  const inserted = await insertAbsent(client, placed, store.id, rows, store.vector_oid);
  if (inserted.size === rows.length) return taken;
  for (const insertion of insertions) {
    const count = insertion.rows.filter(({ id }) => inserted.has(id)).length;
    if (count === 0) taken.add(insertion);
    else if (count < insertion.rows.length) throw new PartlyTaken("Some ids are taken.");
  }
  return taken;
}

/** Sums up insertions, of which there is at least one. Throws StoreChanged when they do not have the same model. */
function sum(insertions: readonly Insertion[]): Addition {
  const models = new Set(
    insertions.map(({ embeddingModel }) => embeddingModel).filter((name) => name !== null),
  );
  if (models.size > 1) throw new StoreChanged("Another model embeds for the store now.");
  const [model] = models;
  const rows = insertions.flatMap((insertion) => insertion.rows);
  return {
    rows: rows.length,
    bytes: rows.reduce((bytes, row) => bytes + row.contentBytes, 0),
    dimensions: dimensionsOf(insertions[0] as Insertion),
    embeddingModel: model ?? null,
  };
}
