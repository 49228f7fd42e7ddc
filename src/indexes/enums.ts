import {
  AttributeType as AttributeTypeMessage,
  IndexState,
  Precision as PrecisionMessage,
} from "../../gen/pgquiver/v1/indexes_pb.ts";
import { invalidArgument } from "../errors.ts";
import type { AttributeType } from "../filters/sql.ts";
import { INDEX_DIMENSIONS_MAX, type Precision } from "../postgres/vector-index.ts";
import type { VectorStoreRow } from "../storage/stores.ts";

/** `index_state` in the database -> its protobuf enum value. */
export const INDEX_STATES: Record<VectorStoreRow["index_state"], IndexState> = {
  none: IndexState.NONE,
  waiting: IndexState.WAITING,
  moving: IndexState.MOVING,
  building: IndexState.BUILDING,
  ready: IndexState.READY,
  failed: IndexState.FAILED,
};

/** `precision` in the database -> its protobuf enum value. */
export const PRECISIONS: Record<Precision, PrecisionMessage> = {
  float32: PrecisionMessage.FLOAT32,
  float16: PrecisionMessage.FLOAT16,
  binary: PrecisionMessage.BINARY,
};

/** The type of an attribute in the database -> its protobuf enum value. */
export const ATTRIBUTE_TYPES: Record<AttributeType, AttributeTypeMessage> = {
  number: AttributeTypeMessage.NUMBER,
  string: AttributeTypeMessage.STRING,
};

/**
 * Converts a precision from protobuf; undefined when it is unset or UNSPECIFIED, `invalid_argument` for a
 * number that is no value of the enum. `checkPrecision` checks the precision against the dimensions.
 */
export function readPrecision(value: PrecisionMessage | undefined): Precision | undefined {
  if (value === undefined || value === PrecisionMessage.UNSPECIFIED) return undefined;
  for (const [precision, message] of Object.entries(PRECISIONS))
    if (message === value) return precision as Precision;
  throw invalidArgument("precision", `Invalid 'precision': ${value} is not a precision.`);
}

/**
 * Throws `invalid_argument` when an HNSW index of this precision does not allow so many dimensions; null:
 * unknown yet.
 */
export function checkPrecision(precision: Precision | null, dimensions: number | null): void {
  if (precision === null || dimensions === null || dimensions <= INDEX_DIMENSIONS_MAX[precision]) return;
  throw invalidArgument(
    "precision",
    `Invalid 'precision': ${precision} allows at most ${INDEX_DIMENSIONS_MAX[precision]} dimensions, but the store has ${dimensions}.`,
  );
}
