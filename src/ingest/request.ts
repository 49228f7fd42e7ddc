import {
  Atomicity,
  IngestState,
  OnError as OnErrorMessage,
  type IngestOpen,
} from "../../gen/pgquiver/v1/ingest_pb.ts";
import { checkRange } from "../api/checks.ts";
import { checkIdentifier } from "../api/identifier.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { limits } from "../limits.ts";
import { readWriteMode } from "../embeddings/request.ts";
import type { WriteMode } from "../embeddings/upsert.ts";
import type { IngestRow } from "./ingests.ts";
import type { OnError } from "./settle.ts";

/** The validated settings of a stream; stored with the ingest, to be compared when the ingest is resumed. */
export interface IngestSettings {
  mode: WriteMode;
  atomicity: "batch" | "stream";
  onError: OnError;
  dimensions: number | null;
  rowErrorsMax: number;
}

const ATOMICITIES = new Map<Atomicity, IngestSettings["atomicity"]>([
  [Atomicity.UNSPECIFIED, "batch"],
  [Atomicity.BATCH, "batch"],
  [Atomicity.STREAM, "stream"],
]);

const ON_ERRORS = new Map<OnErrorMessage, OnError>([
  [OnErrorMessage.ABORT_BATCH, "abort_batch"],
  [OnErrorMessage.SKIP_ROW, "skip_row"],
  [OnErrorMessage.ABORT, "abort"],
]);

/** A stream's validated `open` message. */
export interface OpenRequest {
  storeId: string;
  /** Undefined: the service generates an id. */
  ingestId: string | undefined;
  settings: IngestSettings;
  /** How many rows the client announces; null: it does not say. */
  rowsAnnounced: number | null;
}

/** Validates an `open` message and applies the defaults. Throws INVALID_ARGUMENT. */
export function readOpen(open: IngestOpen): OpenRequest {
  const settings = readSettings(open);
  if (open.vectorStoreId === "") throw missingParameter("open.vector_store_id");
  const rowsAnnounced = open.totalRows === undefined ? null : Number(open.totalRows);
  checkRange("open.total_rows", rowsAnnounced ?? 0, 0, Number.MAX_SAFE_INTEGER);
  if (open.ingestId !== "") checkIdentifier(open.ingestId, "open.ingest_id");
  return {
    storeId: open.vectorStoreId,
    ingestId: open.ingestId === "" ? undefined : open.ingestId,
    settings,
    rowsAnnounced,
  };
}

function readSettings(open: IngestOpen): IngestSettings {
  const mode = readWriteMode(open.mode, "open.mode");
  const atomicity = ATOMICITIES.get(open.atomicity);
  if (atomicity === undefined)
    throw invalidArgument("open.atomicity", `Invalid 'open.atomicity': ${open.atomicity} is unknown.`);
  const fallback = atomicity === "stream" ? OnErrorMessage.ABORT : OnErrorMessage.ABORT_BATCH;
  const onError = ON_ERRORS.get(open.onError === OnErrorMessage.UNSPECIFIED ? fallback : open.onError);
  if (onError === undefined)
    throw invalidArgument("open.on_error", `Invalid 'open.on_error': ${open.onError} is unknown.`);
  if (atomicity === "stream" && onError === "abort_batch") {
    const message =
      "Invalid 'open.on_error': 'atomicity' stream does not allow abort_batch, which skips batches.";
    throw invalidArgument("open.on_error", message);
  }
  if (open.dimensions !== undefined) checkRange("open.dimensions", open.dimensions, 1, limits.dimensions_max);
  const rowErrorsMax = open.maxRowErrors ?? limits.row_errors_default;
  checkRange("open.max_row_errors", rowErrorsMax, 0, limits.row_errors_max);
  return { mode, atomicity, onError, dimensions: open.dimensions ?? null, rowErrorsMax };
}

const STATES = new Map<IngestState, IngestRow["state"] | undefined>([
  [IngestState.UNSPECIFIED, undefined],
  [IngestState.OPEN, "open"],
  [IngestState.COMPLETED, "completed"],
  [IngestState.ABORTED, "aborted"],
]);

/** The state that a list is restricted to; undefined: all. Throws INVALID_ARGUMENT. */
export function readState(state: IngestState = IngestState.UNSPECIFIED): IngestRow["state"] | undefined {
  if (!STATES.has(state)) throw invalidArgument("state", `Invalid 'state': ${state} is unknown.`);
  return STATES.get(state);
}
