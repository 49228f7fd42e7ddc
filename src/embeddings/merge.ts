import { vectorStoreExpired, vectorStoreNotFound } from "../errors.ts";
import type { Embedder } from "../models/embedder.ts";
import { checkModel, checkSameModel, chooseEmbedder } from "../models/same-model.ts";
import type { Client, Database } from "../postgres/database.ts";
import { isConflict } from "../postgres/errors.ts";
import type { Tables } from "../postgres/tables.ts";
import { countAdditionStatement, lockStore } from "../storage/counts.ts";
import { findTakenIds } from "../storage/embeddings.ts";
import { readPlaced, writeStoreFramed, type OpenedStore } from "../storage/placement.ts";
import { requireRoom } from "../storage/quotas.ts";
import { requireActiveStore } from "../storage/require.ts";
import { explainRefusal } from "./count.ts";
import {
  vectorParam,
  checkAllDimensions,
  readInputs,
  type Addressing,
  type CheckedInput,
  type Input,
} from "./input.ts";
import { bytesOf, reservingLater, StoreChanged } from "./insertion.ts";
import type { Row } from "./row.ts";
import { insertAbsent, mergeRows, type WriteMode } from "./upsert.ts";

/** Bytes of the rows of one statement, about. */
const STATEMENT_BYTES = 16 * 1024 * 1024;

/** Attempts of a transaction when others at the same time are in its way. */
const ATTEMPTS_MAX = 10;

/** The rows of a request by what came of them, in the order of the request. */
interface Merged {
  written: Placed<Pick<Row, "id" | "createdAt">>[];
  /** Ids of rows that were not written because they exist. */
  skippedIds: string[];
}

/** A row, and its place in the request. */
type Placed<T> = T & { place: number };

/**
 * Adds embeddings whose ids may exist, in one transaction: "upsert" replaces the old rows, "skip_existing" keeps them.
 * Texts without a vector are embedded, but not those of rows that are known to be skipped. Throws as `addEmbeddings`,
 * without ALREADY_EXISTS and IDEMPOTENCY_CONFLICT: a repeated request has the same result anyway.
 */
export async function mergeEmbeddings(
  database: Database,
  embedder: Embedder,
  inputs: readonly Input[],
  mode: Exclude<WriteMode, "insert">,
  addressing: Addressing,
): Promise<Merged> {
  const { pool, tables } = database;
  const { storeId, payer, signal } = addressing;
  const checked = (await readInputs(inputs, addressing)).map((row, place) => ({ ...row, place }));
  const known = await requireActiveStore(pool, tables, storeId);
  const taken = new Set(
    await readPlaced(pool, tables, known, (client, placed) =>
      findTakenIds(
        client,
        placed,
        storeId,
        checked.map(({ id }) => id),
      ),
    ),
  );
  const wanted = checked.filter(({ id }) => mode === "upsert" || !taken.has(id));
  const missing = wanted.filter(({ vector }) => vector === undefined);
  const chosen = missing.length === 0 ? undefined : chooseEmbedder(embedder, known);
  if (chosen !== undefined) await requireRoom(pool, tables, storeId, growthOf(wanted, taken));
  const texts = missing.map(({ content }) => content);
  const embedded = (await chosen?.embed(texts, signal, "bounded", payer))?.vectors ?? [];
  let next = 0;
  const rows = wanted.map((row): Placed<Row> => {
    return { ...row, vector: row.vector ?? (embedded[next++] as Float32Array) };
  });
  if (rows.length === 0) return { written: [], skippedIds: checked.map(({ id }) => id) };
  const inputsOf = (some: readonly Placed<Row>[]) => some.map(({ place }) => inputs[place] as Input);
  const pathOf = (index: number) => addressing.path((rows[index] as Placed<Row>).place);
  const stamp = {
    dimensions: (rows[0] as Row).vector.byteLength / 4,
    embeddingModel: chosen?.model ?? null,
  };
  const run = async () =>
    reservingLater(async (reserve) => {
      const write = async (client: Client, placed: Tables, store: OpenedStore) => {
        if (store.expired) throw vectorStoreExpired(storeId);
        if (chosen !== undefined) checkSameModel(known, store);
        checkAllDimensions(rows, inputsOf(rows), store, pathOf);
        if (chosen !== undefined) checkModel(chosen.model, store);
        const { ids, ...grown } = await writeRows(client, placed, store, rows, mode, taken);
        const addition = { ...grown, ...stamp };
        await reserve?.(client, tables, storeId, addition);
        return { result: ids, closing: countAdditionStatement(tables, storeId, addition, true) };
      };
      return writeStoreFramed(pool, tables, storeId, write, { signal });
    });
  const isWritten = await retryConflicts(run).catch(async (error: unknown) => {
    if (!(error instanceof StoreChanged)) throw error;
    throw await explainRefusal(pool, tables, storeId, stamp, vectorParam(inputsOf(rows), 0, pathOf));
  });
  return {
    written: checked.filter(({ id }) => isWritten.has(id)),
    skippedIds: checked.map(({ id }) => id).filter((id) => !isWritten.has(id)),
  };
}

/** Repeats a transaction that was the victim of a deadlock, with an insertion of rows that have the same ids. */
async function retryConflicts<T>(run: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await run();
    } catch (error) {
      if (!isConflict(error) || attempt === ATTEMPTS_MAX) throw error;
    }
  }
}

function growthOf(rows: readonly CheckedInput[], taken: ReadonlySet<string>) {
  const added = rows.filter(({ id }) => !taken.has(id));
  return { rows: added.length, bytes: sumBytes(added) };
}

/**
 * Writes rows by several statements. `ids`: those of the rows written; `taken`: those that exist, as far as is known. New
 * rows are inserted before the store's row is locked, as insertions do it: a transaction that waited for the insertion of
 * one of its ids with the store's row locked would be in a deadlock with it.
 */
async function writeRows(
  client: Client,
  placed: Tables,
  store: OpenedStore,
  rows: readonly Row[],
  mode: Exclude<WriteMode, "insert">,
  taken: ReadonlySet<string>,
): Promise<{ ids: Set<string>; rows: number; bytes: number }> {
  // In the order of ids, like the statements themselves: so no two writes lock rows in opposite orders.
  const sorted = rows.toSorted((a, b) => (a.id < b.id ? -1 : 1));
  const ids = new Set<string>();
  for (const part of split(sorted.filter(({ id }) => !taken.has(id)))) {
    const inserted = await insertAbsent(client, placed, store.id, part, store.vector_oid);
    for (const id of inserted) ids.add(id);
  }
  const grown = { rows: ids.size, bytes: sumBytes(rows.filter(({ id }) => ids.has(id))) };
  const existing = sorted.filter(({ id }) => !ids.has(id));
  if (mode === "skip_existing" || existing.length === 0) return { ids, ...grown };
  if (!(await lockStore(client, placed, store.id))) throw vectorStoreNotFound(store.id);
  for (const part of split(existing)) {
    const merged = await mergeRows(client, placed, store.id, part, "replace", store.vector_oid);
    grown.rows += merged.rowsAdded;
    grown.bytes += merged.bytesAdded;
    for (const { id } of part) ids.add(id);
  }
  return { ids, ...grown };
}

function sumBytes(rows: readonly Pick<Row, "contentBytes">[]): number {
  return rows.reduce((sum, { contentBytes }) => sum + contentBytes, 0);
}

function* split(rows: readonly Row[]): Generator<Row[]> {
  let part: Row[] = [];
  let bytes = 0;
  for (const row of rows) {
    part.push(row);
    bytes += bytesOf([row]);
    if (bytes < STATEMENT_BYTES) continue;
    yield part;
    part = [];
    bytes = 0;
  }
  if (part.length > 0) yield part;
}
