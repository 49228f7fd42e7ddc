import { invalidArgument, type Reason } from "../errors.ts";
import type { RowFault } from "./ingests.ts";

/**
 * How long a group whose rows are sent waits, within its transaction, for the group before it. The wait is invisible to
 * Postgres' deadlock detector: if the group before waits for another transaction, which waits for a row of this group,
 * only giving up ends the deadlock. As long as `deadlock_timeout`.
 */
const TURN_MS = 1_000;

/** The result of writing some batches. */
export interface GroupOutcome {
  throughSeq: number;
  rowsWritten: number;
  rowsSkipped: number;
  rowsRejected: number;
  /** Bytes of the texts and vectors of the rows that were not refused. */
  rowBytes: number;
  /** The faults to report, cut off at the ingest's `max_row_errors`. */
  errors: RowFault[];
  /** The fault that ends the stream, with `on_error` abort. */
  fatal: RowFault | undefined;
}

/** A group that is being written. */
export interface Flight {
  ids: ReadonlySet<string>;
  /** Resolves when all rows have vectors. */
  embedded: Promise<void>;
  /** Resolves when the group is committed. */
  outcome: Promise<GroupOutcome>;
}

/** Thrown within the transaction of a group that has waited too long for the group before it. */
export class OutOfTurn extends Error {}

/** The INVALID_ARGUMENT error that ends a stream because of a refused row. */
export function refusal(fault: RowFault) {
  const place = `batch ${fault.seq}, row ${fault.index}`;
  const field = fault.field === "" ? "" : `.${fault.field}`;
  return invalidArgument(
    `rows[${fault.index}]${field}`,
    `Refused ${place}: ${fault.message}`,
    fault.code as Reason,
  );
}

/** Waits for the commit of a group; throws when there is none, or when its refused row ended the stream. */
export async function committed({ outcome }: Flight): Promise<void> {
  const { fatal } = await outcome;
  if (fatal !== undefined) throw refusal(fatal);
}

/** Like `committed`, but throws OutOfTurn when that takes too long. */
export async function inTurn(before: Flight): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new OutOfTurn()), TURN_MS);
  try {
    await Promise.race([committed(before), late.promise]);
  } finally {
    clearTimeout(timer);
  }
}
