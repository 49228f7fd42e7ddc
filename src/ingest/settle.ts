import type { Row } from "../embeddings/row.ts";
import type { Vector } from "../embeddings/vector.ts";
import type { RowFault } from "./ingests.ts";

/** A row with its place in the stream; without a vector until its text is embedded. */
export interface PlacedRow extends Omit<Row, "vector"> {
  seq: number;
  index: number;
  vector: Vector | undefined;
  /** Whether the service made the vector. */
  isEmbedded: boolean;
}

/** A batch as it came: its good rows and the faults of its bad ones. */
export interface Batch {
  seq: number;
  rowsSeen: number;
  rows: PlacedRow[];
  faults: RowFault[];
}

/** What happens to a row whose id is taken. */
export type WriteMode = "insert" | "upsert" | "skip_existing";

/** What happens to the rest when a row is refused. */
export type OnError = "abort_batch" | "skip_row" | "abort";

/** What is left of some batches to be written, with no id twice. */
export interface Settled {
  rows: PlacedRow[];
  /** The last batch that is dealt with. */
  throughSeq: number;
  faults: RowFault[];
  rowsRejected: number;
  /** Rows that count as written although a later one of the group replaced them. */
  rowsReplaced: number;
  /** Rows that count as skipped because an earlier one of the group has their id. */
  rowsSkipped: number;
  /** The fault that ends the stream, with `abort`; the batches before its own are dealt with. */
  fatal: RowFault | undefined;
}

/**
 * Decides which rows of a group are written, batch by batch as if each were alone: refused rows, and
 * with `abort_batch` their batches, are left out; of several rows with one id the last, the first, or
 * only the first stays, by mode. `taken` are ids known to be in the store, which matter to `insert`.
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

/** The rows whose id an earlier row of the batch has. */
function findRepeats(rows: readonly PlacedRow[]): Set<PlacedRow> {
  const seen = new Set<string>();
  return new Set(rows.filter((row) => seen.size === seen.add(row.id).size));
}

function takenFault(row: PlacedRow): RowFault {
  const message = `There is an embedding with id '${row.id}' already.`;
  return { seq: row.seq, index: row.index, id: row.id, code: "ALREADY_EXISTS", field: "id", message };
}
