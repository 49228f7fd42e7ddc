import type { Row } from "../embeddings/row.ts";
import type { WriteMode } from "../embeddings/upsert.ts";
import type { Vector } from "../embeddings/vector.ts";
import type { RowFault } from "./ingests.ts";

/** A validated row with its position in the stream; `vector` is undefined until the text is embedded. */
export interface PlacedRow extends Omit<Row, "vector"> {
  seq: number;
  index: number;
  vector: Vector | undefined;
  /** The model with which the service embedded the text; null for a caller's vector. */
  embeddingModel: string | null;
}

/** A validated batch: its valid rows, and the faults of the invalid ones. */
export interface Batch {
  seq: number;
  rowsSeen: number;
  rows: PlacedRow[];
  faults: RowFault[];
}

/** What happens when a row is refused: its batch is refused, only the row is refused, or the stream ends. */
export type OnError = "abort_batch" | "skip_row" | "abort";

/** The rows of some batches to write, with distinct ids, and the counts of the others. */
export interface Settled {
  rows: PlacedRow[];
  /** `seq` of the last batch that is settled. */
  throughSeq: number;
  faults: RowFault[];
  rowsRejected: number;
  /** Rows replaced by a later row of the same group; reported as written. */
  rowsReplaced: number;
  /** Rows skipped because an earlier row of the same group has their id. */
  rowsSkipped: number;
  /** The fault that ends the stream, with `abort`; only the batches before the fault's batch are settled. */
  fatal: RowFault | undefined;
}

/**
 * Decides which rows of a group are written, with the same result as if each batch were written by itself.
 * Refused rows, and with `abort_batch` their whole batches, are left out. Of several rows with the same id,
 * upsert keeps the last, skip_existing keeps the first, and insert keeps the first and refuses the others.
 * `taken` are ids known to exist in the store; only insert uses them.
 */
export function settle(
  batches: readonly Batch[],
  mode: WriteMode,
  onError: OnError,
  taken: ReadonlySet<string>,
  startSeq: number,
): Settled {
  const kept = new Map<string, PlacedRow>();
  const settled: Settled = {
    rows: [],
    throughSeq: startSeq,
    faults: [],
    rowsRejected: 0,
    rowsReplaced: 0,
    rowsSkipped: 0,
    fatal: undefined,
  };
  for (const batch of batches) {
    const isFree = (row: PlacedRow) => mode !== "insert" || !(kept.has(row.id) || taken.has(row.id));
    const repeats = mode === "insert" ? findRepeats(batch.rows) : new Set();
    const refused = new Set(batch.rows.filter((row) => !isFree(row) || repeats.has(row)));
    const faults = [...batch.faults, ...Array.from(refused, takenFault)].toSorted(
      (a, b) => a.index - b.index,
    );
    if (faults.length > 0 && onError === "abort")
      return { ...settled, rows: [...kept.values()], fatal: faults[0] };
    settled.faults.push(...faults);
    settled.throughSeq = batch.seq;
    if (faults.length > 0 && onError === "abort_batch") {
      settled.rowsRejected += batch.rowsSeen;
      continue;
    }
    settled.rowsRejected += faults.length;
    for (const row of batch.rows) {
      if (refused.has(row)) continue;
      if (!kept.has(row.id)) kept.set(row.id, row);
      else if (mode === "skip_existing") settled.rowsSkipped++;
      else {
        settled.rowsReplaced++;
        kept.set(row.id, row);
      }
    }
  }
  return { ...settled, rows: [...kept.values()] };
}

/** The rows whose id occurs in an earlier row of the batch. */
function findRepeats(rows: readonly PlacedRow[]): Set<PlacedRow> {
  const seen = new Set<string>();
  return new Set(rows.filter((row) => seen.size === seen.add(row.id).size));
}

function takenFault(row: PlacedRow): RowFault {
  const message = `An embedding with the id '${row.id}' already exists.`;
  return { seq: row.seq, index: row.index, id: row.id, code: "ALREADY_EXISTS", field: "id", message };
}

/** The model with which texts of the rows were embedded; null: with none. */
export function modelOf(rows: readonly PlacedRow[]): string | null {
  return rows.find((row) => row.embeddingModel !== null)?.embeddingModel ?? null;
}
