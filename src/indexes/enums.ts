import { IndexState, Precision as PrecisionMessage } from "../../gen/pgquiver/v1/indexes_pb.ts";
import { invalidArgument } from "../errors.ts";
import { INDEX_DIMENSIONS_MAX, type Precision } from "../postgres/vector-index.ts";
import type { VectorStoreRow } from "../storage/stores.ts";

/** The states of an index as messages have them. */
export const INDEX_STATES: Record<VectorStoreRow["index_state"], IndexState> = {
  none: IndexState.NONE,
  waiting: IndexState.WAITING,
  moving: IndexState.MOVING,
  building: IndexState.BUILDING,
  ready: IndexState.READY,
  failed: IndexState.FAILED,
};

/** The precisions as messages have them. */
export const PRECISIONS: Record<Precision, PrecisionMessage> = {
  float32: PrecisionMessage.FLOAT32,
  float16: PrecisionMessage.FLOAT16,
  binary: PrecisionMessage.BINARY,
};

/** Reads a precision; undefined when none was given. Whether it suits the dimensions is up to `checkPrecision`. */
export function readPrecision(value: PrecisionMessage | undefined): Precision | undefined {
  if (value === undefined || value === PrecisionMessage.UNSPECIFIED) return undefined;
  for (const [precision, message] of Object.entries(PRECISIONS))
    if (message === value) return precision as Precision;
  throw invalidArgument("precision", `Invalid 'precision': ${value} is no precision.`);
}

/** Refuses a precision that no index on vectors of so many dimensions can have. */
export function checkPrecision(precision: Precision | null, dimensions: number | null): void {
  if (precision === null || dimensions === null || dimensions <= INDEX_DIMENSIONS_MAX[precision]) return;
  throw invalidArgument(
    "precision",
    `Invalid 'precision': ${precision} takes up to ${INDEX_DIMENSIONS_MAX[precision]} dimensions, but the store has ${dimensions}.`,
  );
}
