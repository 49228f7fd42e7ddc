import { bulkTurn } from "../api/concurrency/bulk-turns.ts";
import { countOrRefuse } from "../embeddings/count.ts";
import { insertRows } from "../embeddings/insert.ts";
import type { Row } from "../embeddings/row.ts";
import { mergeRows, type Written } from "../embeddings/upsert.ts";
import { checkDimensions, type Vector } from "../embeddings/vector.ts";
import { conflict, vectorStoreNotFound } from "../errors.ts";
import type { Embedder } from "../models/embedder.ts";
import { chooseEmbedder } from "../models/same-model.ts";
import type { Client, Database } from "../postgres/database.ts";
import { isConflict, isUniqueViolation } from "../postgres/errors.ts";
import type { Tables } from "../postgres/tables.ts";
import { savepoint } from "../postgres/transaction.ts";
import { lockStore } from "../storage/counts.ts";
import { findTakenIds } from "../storage/embeddings.ts";
import { readPlaced, writeStore, type OpenedStore } from "../storage/placement.ts";
import { requireRoom } from "../storage/quotas.ts";
import { traced } from "../tracing.ts";
import { recordProgress, type RowFault } from "./ingests.ts";
import { committed, inTurn, OutOfTurn, refusal, type Flight, type GroupOutcome } from "./flight.ts";
import { explainLoss, type IngestSession } from "./session.ts";
import { modelOf, settle, type Batch, type Settled } from "./settle.ts";

/**
 * Attempts per group when concurrent transactions cause conflicts, such as deadlocks or unique violations.
 */
const ATTEMPTS_MAX = 10;

/**
 * `idle_in_transaction_session_timeout` of a transaction that spans a stream. Longer than the client's idle
 * timeout and than the embedder's timeout: these end the stream first, with a specific error.
 */
const STREAM_IDLE_TIMEOUT_MS = 600_000;

/** Totals of a stream that are not yet added to the store's counts. */
interface Uncounted {
  rows: number;
  bytes: number;
  /** Dimensions of the vectors; undefined when no row was added. */
  dimensions: number | undefined;
  /** The model with which the service embedded texts of the rows; null: with none. */
  embeddingModel: string | null;
}

/** Returns those of the ids that exist in the store. */
type FindTaken = (ids: readonly string[]) => Promise<string[]>;

/** Writes the groups of one stream, with the store's counts and the ingest's progress in the same transaction. */
export class GroupWriter {
  readonly #database: Database;
  readonly #embedder: Embedder;
  readonly #session: IngestSession;
  readonly #openSecond: () => Disposable | undefined;
  readonly #signal: AbortSignal;
  #errorsLeft: number;
  /** Dimensions of the stream's vectors; null until the first vector. */
  #dimensions: number | null;
  /** Why the payer may embed nothing, found out before a transaction. */
  #refusal: Error | undefined;

  /** `openSecond` admits a second connection for the stream, or refuses it by undefined. */
  constructor(
    database: Database,
    embedder: Embedder,
    session: IngestSession,
    openSecond: () => Disposable | undefined,
    signal: AbortSignal,
  ) {
    this.#database = database;
    this.#embedder = embedder;
    this.#session = session;
    this.#openSecond = openSecond;
    this.#signal = signal;
    this.#errorsLeft = session.settings.rowErrorsMax - session.ingest.errors.length;
    this.#dimensions = session.settings.dimensions ?? session.store.dimensions;
  }

  /**
   * Writes batches in one transaction together with the ingest's `through_seq`, which makes resuming exactly-once. While
   * the group before them is still being written, the rows may be sent on a second connection; but the transaction goes
   * on only when the one before it is committed, so a crash never leaves this group without that one.
   */
  begin(batches: readonly Batch[], before?: Flight): Flight {
    const embedded = Promise.withResolvers<void>();
    const ids = new Set(batches.flatMap(({ rows }) => rows.map(({ id }) => id)));
    const outcome = traced(
      "ingest group",
      () => ({ attributes: { "pgquiver.rows": batches.reduce((sum, { rows }) => sum + rows.length, 0) } }),
      () => this.#commit(batches, ids, before, embedded.resolve),
    ).finally(embedded.resolve);
    // The stream may end before it asks for the outcome.
    outcome.catch(() => {});
    return { ids, embedded: embedded.promise, outcome };
  }

  async #commit(
    batches: readonly Batch[],
    ids: ReadonlySet<string>,
    before: Flight | undefined,
    onEmbedded: () => void,
  ): Promise<GroupOutcome> {
    // In order, because the first vector of the stream fixes the dimensions.
    await before?.embedded;
    await bulkTurn();
    await this.#embedMissing(batches);
    onEmbedded();
    if (before === undefined) return this.#commitGroup(batches);
    using second = this.#mayOverlap(ids, before) ? this.#openSecond() : undefined;
    if (second !== undefined) {
      try {
        return await this.#commitGroup(batches, () => inTurn(before));
      } catch (error) {
        if (!(error instanceof OutOfTurn)) throw error;
      }
    }
    await committed(before);
    return await this.#commitGroup(batches);
  }

  /**
   * Whether rows may be sent while those before them are not committed. Rows with the same id would wait for these, and
   * the statements for other modes lock what the group before has locked.
   */
  #mayOverlap(ids: ReadonlySet<string>, before: Flight): boolean {
    if (this.#database.kind !== "postgres" || this.#session.settings.mode !== "insert") return false;
    for (const id of ids) if (before.ids.has(id)) return false;
    return true;
  }

  /** `turn` is awaited in the transaction, between the rows and what depends on the group before. */
  async #commitGroup(batches: readonly Batch[], turn?: () => Promise<void>): Promise<GroupOutcome> {
    const { pool, tables } = this.#database;
    const { store } = this.#session;
    const findTaken: FindTaken = (ids) =>
      readPlaced(pool, tables, store, (client, placed) => findTakenIds(client, placed, store.id, ids));
    return this.#attempt(findTaken, batches, (settled) =>
      writeStore(
        pool,
        tables,
        store.id,
        async (client, placed, current) => {
          this.#checkStore(settled, current);
          const written = await this.#write(client, placed, settled);
          await turn?.();
          const outcome = toOutcome(settled, written, this.#errorsLeft);
          await this.#record(client, firstSeq(batches) - 1, outcome, this.#toUncounted(settled, written));
          return outcome;
        },
        this.#signal,
      ),
    );
  }

  /**
   * Writes all groups of a stream in one transaction. The store's counts are updated at the end of the
   * transaction, so that the store's row is locked only briefly; then `finish` runs, and its result is
   * returned after the commit.
   */
  async commitAll<T>(
    groups: AsyncIterable<readonly Batch[]>,
    finish: (client: Client, outcome: GroupOutcome) => Promise<T>,
  ): Promise<T> {
    const { pool, tables } = this.#database;
    const { store } = this.#session;
    const fromSeq = Number(this.#session.ingest.through_seq);
    const total = {
      throughSeq: fromSeq,
      rowsWritten: 0,
      rowsSkipped: 0,
      rowsRejected: 0,
      rowBytes: 0,
      errors: [] as RowFault[],
    };
    // Thrown only when a text is to be embedded: rows with vectors use no tokens.
    this.#refusal = await this.#embedder.refuse?.(this.#session.payer);
    const uncounted: Uncounted = { rows: 0, bytes: 0, dimensions: undefined, embeddingModel: null };
    return writeStore(
      pool,
      tables,
      store.id,
      async (client, placed, current) => {
        const findTaken: FindTaken = (ids) => findTakenIds(client, placed, store.id, ids);
        await client.query(`set local idle_in_transaction_session_timeout = ${STREAM_IDLE_TIMEOUT_MS}`);
        for await (const batches of groups) {
          await this.#embedMissing(batches);
          const outcome = await this.#attempt(findTaken, batches, async (settled) => {
            this.#checkStore(settled, current);
            const written = await savepoint(client, () => this.#write(client, placed, settled));
            const added = this.#toUncounted(settled, written);
            uncounted.rows += added.rows;
            uncounted.bytes += added.bytes;
            uncounted.dimensions ??= added.dimensions;
            uncounted.embeddingModel ??= added.embeddingModel;
            return toOutcome(settled, written, this.#errorsLeft);
          });
          if (outcome.fatal !== undefined) throw refusal(outcome.fatal);
          total.throughSeq = outcome.throughSeq;
          total.rowsWritten += outcome.rowsWritten;
          total.rowsSkipped += outcome.rowsSkipped;
          total.rowsRejected += outcome.rowsRejected;
          total.rowBytes += outcome.rowBytes;
          total.errors.push(...outcome.errors);
        }
        await this.#record(client, fromSeq, { ...total, fatal: undefined }, uncounted);
        return finish(client, { ...total, fatal: undefined });
      },
      this.#signal,
    );
  }

  /** Embeds the texts that have no vector, except those of batches that will be refused anyway. */
  async #embedMissing(batches: readonly Batch[]): Promise<void> {
    const { store, settings } = this.#session;
    const rows = batches
      .filter((batch) => batch.faults.length === 0 || settings.onError === "skip_row")
      .flatMap((batch) => batch.rows);
    const missing = rows.filter((row) => row.vector === undefined);
    if (missing.length > 0) {
      const embedder = chooseEmbedder(this.#embedder, store);
      // A stream of one transaction holds the only connection there may be; its rows are counted at its end.
      const isEarly = settings.atomicity === "batch" && settings.mode === "insert";
      if (isEarly && settings.onError !== "skip_row") {
        const bytes = rows.reduce((sum, row) => sum + row.contentBytes, 0);
        const { pool, tables } = this.#database;
        await requireRoom(pool, tables, store.id, { rows: rows.length, bytes });
      }
      const texts = missing.map(({ content }) => content);
      if (this.#refusal !== undefined) throw this.#refusal;
      const payer = { ...this.#session.payer, isAdmitted: settings.atomicity === "stream" };
      const { vectors } = await embedder.embed(texts, this.#signal, "unbounded", payer);
      for (const [index, row] of missing.entries()) {
        row.vector = vectors[index] as Float32Array;
        row.embeddingModel = embedder.model;
      }
    }
    // The reader has compared the dimensions of the callers' vectors; those of texts are known only now.
    for (const row of rows) {
      const vector = row.vector as Vector;
      this.#dimensions ??= vector.byteLength / 4;
      checkDimensions(
        vector,
        this.#dimensions,
        store.id,
        row.embeddingModel !== null ? "content" : "embedding",
      );
    }
  }

  /**
   * Settles and writes batches. Retries after a unique violation, with the taken ids looked up for `settle`,
   * and after a conflict with a concurrent transaction.
   */
  async #attempt(
    find: FindTaken,
    batches: readonly Batch[],
    write: (settled: Settled) => Promise<GroupOutcome>,
  ): Promise<GroupOutcome> {
    const { mode, onError } = this.#session.settings;
    const ids = batches.flatMap((batch) => batch.rows.map((row) => row.id));
    const taken = new Set<string>();
    const findTaken = async () => {
      for (const id of await find(ids)) taken.add(id);
    };
    let isComplete = mode !== "insert" || onError === "skip_row";
    for (let conflicts = 0; ;) {
      await bulkTurn();
      const settled = settle(batches, mode, onError, taken, firstSeq(batches) - 1);
      if (!isComplete && (settled.faults.length > 0 || settled.fatal !== undefined)) {
        // A refused batch is not written, so no unique violation would report its taken ids: look them up.
        await findTaken();
        isComplete = true;
        continue;
      }
      try {
        const outcome = await write(settled);
        this.#errorsLeft -= outcome.errors.length;
        return outcome;
      } catch (error) {
        const isTaken = isUniqueViolation(error);
        if (!(isTaken || isConflict(error))) throw error;
        const takenBefore = taken.size;
        if (isTaken) await findTaken();
        // Each newly found taken id is progress, and the ids are finite: such retries need no limit.
        if (taken.size > takenBefore) continue;
        if (++conflicts === ATTEMPTS_MAX) throw isTaken ? conflict(error) : error;
      }
    }
  }

  /** Throws DIMENSION_MISMATCH when the store has come to a model of other dimensions since the stream was opened. */
  #checkStore({ rows: [row] }: Settled, { dimensions }: OpenedStore): void {
    if (row?.vector === undefined) return;
    const param = row.embeddingModel === null ? "embedding" : "content";
    checkDimensions(row.vector, dimensions, this.#session.store.id, param);
  }

  async #write(client: Client, tables: Tables, settled: Settled): Promise<Written> {
    const { store, settings, vectorOid } = this.#session;
    const rows = settled.rows as Row[];
    if (rows.length === 0) return { written: 0, skipped: 0, rowsAdded: 0, bytesAdded: 0 };
    if (settings.mode !== "insert") {
      if (settings.mode === "upsert" && !(await lockStore(client, tables, store.id)))
        throw vectorStoreNotFound(store.id);
      return mergeRows(
        client,
        tables,
        store.id,
        rows,
        settings.mode === "upsert" ? "replace" : "skip",
        vectorOid,
      );
    }
    await insertRows(client, tables, this.#database.kind, store.id, rows, bulkTurn);
    const bytesAdded = rows.reduce((sum, row) => sum + row.contentBytes, 0);
    return { written: rows.length, skipped: 0, rowsAdded: rows.length, bytesAdded };
  }

  #toUncounted(settled: Settled, written: Written): Uncounted {
    return {
      rows: written.rowsAdded,
      bytes: written.bytesAdded,
      dimensions: dimensionsOf(settled.rows[0]?.vector),
      embeddingModel: modelOf(settled.rows),
    };
  }

  async #record(client: Client, fromSeq: number, outcome: GroupOutcome, added: Uncounted): Promise<void> {
    const { tables } = this.#database;
    const { key, store } = this.#session;
    const { rows, bytes, dimensions, embeddingModel } = added;
    if (dimensions !== undefined) {
      const addition = { rows, bytes, dimensions, embeddingModel };
      await countOrRefuse(client, tables, store.id, addition, "embedding");
    }
    if (!(await recordProgress(client, tables, key, fromSeq, outcome)))
      throw await explainLoss(client, this.#database, key);
  }
}

/** Batches are numbered without gaps, so the ingest is at the number before when its turn comes. */
function firstSeq([first]: readonly Batch[]): number {
  return (first as Batch).seq;
}

function dimensionsOf(vector: Vector | undefined): number | undefined {
  return vector === undefined ? undefined : vector.byteLength / 4;
}

function toOutcome(settled: Settled, written: Written, errorsMax: number): GroupOutcome {
  return {
    throughSeq: settled.throughSeq,
    rowsWritten: written.written + settled.rowsReplaced,
    rowsSkipped: written.skipped + settled.rowsSkipped,
    rowsRejected: settled.rowsRejected,
    rowBytes: settled.rows.reduce((sum, row) => sum + row.contentBytes + (row.vector?.byteLength ?? 0), 0),
    errors: settled.faults.slice(0, Math.max(0, errorsMax)),
    fatal: settled.fatal,
  };
}
