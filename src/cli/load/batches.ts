import type { PlacedRow, Row } from "./rows.ts";

/** A batch is complete at this many bytes or rows: large enough to be fast, small enough to be sent again. */
const BATCH_BYTES = 1_048_576;
const BATCH_ROWS = 10_000;

/** Rows that follow each other, and that the service stores together. */
export interface Batch {
  /** 1, 2, 3, … */
  seq: bigint;
  rows: Row[];
  places: number[];
  /** Bytes of the input that were read when the batch was complete. */
  bytesRead: number;
}

/**
 * Splits rows into batches. The split depends on the rows only, so that a load that goes on later has the same rows in
 * the batch of a number. `bytesRead`: how much of the input was read.
 */
export async function* splitBatches(
  rows: AsyncIterable<PlacedRow>,
  bytesRead: () => number,
): AsyncGenerator<Batch, undefined> {
  let seq = 0n;
  let [batch, places, size]: [Row[], number[], number] = [[], [], 0];
  const cut = (): Batch => {
    const complete = { seq: ++seq, rows: batch, places, bytesRead: bytesRead() };
    [batch, places, size] = [[], [], 0];
    return complete;
  };
  for await (const { row, place } of rows) {
    batch.push(row);
    places.push(place);
    size +=
      Buffer.byteLength(row.content ?? "") +
      4 * (row.embedding?.length ?? 0) +
      JSON.stringify(row.metadata).length;
    if (size >= BATCH_BYTES || batch.length === BATCH_ROWS) yield cut();
  }
  if (batch.length > 0) yield cut();
  return undefined;
}
