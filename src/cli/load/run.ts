import {
  IngestService,
  IngestSummarySchema,
  type IngestSummary,
} from "../../../gen/pgquiver/v1/ingest_pb.ts";
import type { Connection } from "../connection.ts";
import { EXIT, Failed } from "../exit.ts";
import { formatBytes, formatDuration, printJson, Progress } from "../output.ts";
import type { Batch } from "./batches.ts";
import { Load, type LoadTarget } from "./load.ts";

/** What is said about a load. */
interface Told {
  /** Size of the input; undefined: unknown. */
  bytes: number | undefined;
  /** What must be added to the same command so that it goes on, with a space before it. */
  again: string;
}

/** Loads batches into a store, shows the progress and each refused row, and says how to go on when it fails. */
export async function runLoad(
  connection: Connection,
  batches: AsyncGenerator<Batch, undefined>,
  target: LoadTarget,
  { bytes, again }: Told,
): Promise<IngestSummary> {
  const startedAt = performance.now();
  const load = new Load(batches, target, {
    refused: ({ seq, index, id, field, message }, place) =>
      progress.say(`Refused row ${place ?? `${index} of batch ${seq}`} (id '${id}'): ${field}: ${message}`),
    retrying: ({ message }, waitMs) =>
      progress.say(`${message} Trying again in ${(waitMs / 1000).toFixed(1)} s.`),
  });
  const progress = new Progress(() =>
    describe(load, (performance.now() - startedAt) / 1000, bytes, target.totalRows),
  );
  try {
    return await load.run(connection.client(IngestService));
  } catch (error) {
    progress.say(`To go on, run the same command again${again}.`);
    throw error;
  } finally {
    progress.end();
  }
}

/** Prints what became of the rows. Throws when some were refused: exit code 3. */
export function printSummary(summary: IngestSummary, isJson: boolean): void {
  const { rowsWritten, rowsSkipped, rowsRejected } = summary;
  if (isJson) printJson(IngestSummarySchema, summary);
  else process.stdout.write(`${rowsWritten} rows written, ${rowsSkipped} skipped, ${rowsRejected} refused\n`);
  if (rowsRejected > 0n) throw new Failed(`${rowsRejected} rows were refused.`, EXIT.incomplete);
}

/** Rows, rate, bytes, and the time left where the number of rows or the size is known. */
function describe(
  { rowsCommitted, rowsBefore, bytesCommitted }: Load,
  seconds: number,
  bytes: number | undefined,
  totalRows: bigint | undefined,
): string {
  const rate = (rowsCommitted - rowsBefore) / Math.max(seconds, 0.001);
  const [done, all] = totalRows === undefined ? [bytesCommitted, bytes] : [rowsCommitted, Number(totalRows)];
  const rows = totalRows === undefined ? `${rowsCommitted}` : `${rowsCommitted} of ${totalRows}`;
  const line = `${rows} rows, ${Math.round(rate)} rows/s`;
  if (all === undefined || done === 0) return line;
  const left = formatDuration((seconds * Math.max(0, all - done)) / done);
  const size =
    bytes === undefined || totalRows !== undefined ? "" : `, ${formatBytes(done)} of ${formatBytes(bytes)}`;
  return `${line}${size}, ${left} left`;
}
