import { splitBatches } from "../../../src/cli/load/batches.ts";
import { Load, MODES } from "../../../src/cli/load/load.ts";
import type { PlacedRow } from "../../../src/cli/load/rows.ts";
import type { Client } from "./client.ts";
import { toMessage, type RowInput } from "./store.ts";

/** How far a load is. */
export interface LoadProgress {
  rowsRead: number;
  rowsCommitted: number;
  /** Those of `rowsCommitted` that an earlier run of the same ingest has loaded. */
  rowsResumed: number;
}

/** A row that the service refused. */
export interface RefusedRow {
  /** Which of the rows given, from 0; undefined: an earlier run has sent it. */
  index: number | undefined;
  id: string;
  field: string;
  code: string;
  message: string;
}

export interface LoadOptions {
  /** What becomes of rows whose id exists; default insert: they are refused. */
  mode?: keyof typeof MODES;
  /** A load goes on where it was interrupted when it is run again with the same id and the same rows. Default: a new one. */
  ingestId?: string;
  /** Number of rows that there are, for those who watch the load. */
  totalRows?: number;
  /** Is called whenever a batch of rows was read, and at the end. */
  onProgress?: (progress: LoadProgress) => void;
  /** Is called before a wait for the next attempt. */
  onRetry?: (error: Error, waitMs: number) => void;
}

/** What became of the rows. */
export interface LoadResult {
  ingestId: string;
  rowsWritten: number;
  rowsSkipped: number;
  rowsRejected: number;
  /** The first 100 of the rows that were refused. */
  refused: RefusedRow[];
}

/**
 * Loads rows into a store, each exactly once, through interruptions of the network and of the service. Rows are read no
 * faster than they are stored; at most 16 batches of about 1 MiB are in memory. For Node and Bun, over gRPC.
 */
export async function load(
  client: Client,
  vectorStoreId: string,
  rows: Iterable<RowInput> | AsyncIterable<RowInput>,
  options: LoadOptions = {},
): Promise<LoadResult> {
  const {
    mode = "insert",
    ingestId = `load-${crypto.randomUUID()}`,
    totalRows,
    onProgress,
    onRetry,
  } = options;
  const refused: RefusedRow[] = [];
  const batches = splitBatches(place(rows), () => {
    // The counts are those before this batch: the batch is complete, and not yet sent.
    onProgress?.(describe(running));
    return 0;
  });
  const running = new Load(
    batches,
    {
      vectorStoreId,
      ingestId,
      mode: MODES[mode],
      totalRows: totalRows === undefined ? undefined : BigInt(totalRows),
    },
    {
      refused: ({ id, field, code, message }, index) => refused.push({ index, id, field, code, message }),
      retrying: (error, waitMs) => onRetry?.(error, waitMs),
    },
  );
  const { rowsWritten, rowsSkipped, rowsRejected } = await running.run(client.ingests);
  onProgress?.(describe(running));
  return {
    ingestId,
    rowsWritten: Number(rowsWritten),
    rowsSkipped: Number(rowsSkipped),
    rowsRejected: Number(rowsRejected),
    refused,
  };
}

function describe({ rowsRead, rowsCommitted, rowsBefore }: Load): LoadProgress {
  return { rowsRead, rowsCommitted, rowsResumed: rowsBefore };
}

async function* place(rows: Iterable<RowInput> | AsyncIterable<RowInput>): AsyncGenerator<PlacedRow> {
  let index = 0;
  for await (const row of rows) yield { row: toMessage(row), place: index++ };
}
