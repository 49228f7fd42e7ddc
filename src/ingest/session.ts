import {
  Atomicity,
  OnError as OnErrorMessage,
  WriteMode,
  type IngestOpen,
} from "../../gen/pgquiver/v1/ingest_pb.ts";
import { aborted, failedPrecondition, invalidArgument, missingParameter } from "../errors.ts";
import type { OnError } from "./settle.ts";
import { findIngest, openIngest, type IngestKey, type IngestRow } from "./ingests.ts";
import { limits } from "../limits.ts";
import type { Database, Queryable } from "../postgres/pool.ts";
import type { VectorStoreRow } from "../storage/stores.ts";
import { checkIdentifier, makeIdentifier } from "../api/identifier.ts";
import { checkRange } from "../api/page.ts";
import { requireActiveStore } from "../vector-stores/service.ts";

/** The settings of a stream, as checked and as kept with its ingest. */
export interface IngestSettings {
  mode: "insert" | "upsert" | "skip_existing";
  atomicity: "batch" | "stream";
  onError: OnError;
  dimensions: number | null;
  rowErrorsMax: number;
}

/** An open stream. */
export interface IngestSession {
  key: IngestKey;
  settings: IngestSettings;
  store: VectorStoreRow;
  ingest: IngestRow;
  /** Type OID of `vector` in this database. */
  vectorOid: number;
}

/** Checks an `open` message and opens its ingest, new or known. */
export async function openSession({ pool, tables }: Database, open: IngestOpen): Promise<IngestSession> {
  const settings = readSettings(open);
  if (open.vectorStoreId === "") throw missingParameter("open.vector_store_id");
  if (open.ingestId !== "") checkIdentifier(open.ingestId, "open.ingest_id");
  const store = await requireActiveStore(pool, tables, open.vectorStoreId);
  if (settings.dimensions !== null && store.dimensions !== null && settings.dimensions !== store.dimensions) {
    const message = `Invalid 'open.dimensions': vector store '${store.id}' holds vectors of ${store.dimensions} dimensions, but got ${settings.dimensions}.`;
    throw invalidArgument("open.dimensions", message, "DIMENSION_MISMATCH");
  }
  const key = {
    storeId: store.id,
    ingestId: open.ingestId === "" ? makeIdentifier("ing").id : open.ingestId,
  };
  const opened = await openIngest(pool, tables, key, settings);
  if (opened === undefined) {
    await requireActiveStore(pool, tables, store.id);
    throw ingestConflict(key);
  }
  const { is_same: isSame, vector_oid: vectorOid, ...ingest } = opened;
  if (!isSame) {
    throw failedPrecondition(
      "INGEST_CONFLICT",
      `Ingest '${key.ingestId}' was opened before with other settings. Resume it with the same ones, or choose another id.`,
      "open.ingest_id",
    );
  }
  if (ingest.state === "aborted") throw ingestAborted(key);
  return { key, settings, store, ingest, vectorOid };
}

/** Somebody else has moved the ingest on: the client must ask where it stands. */
export function ingestConflict(key: IngestKey) {
  return aborted(
    "INGEST_CONFLICT",
    `Ingest '${key.ingestId}' was moved on by another stream. Open it again to go on where it stands.`,
    "open.ingest_id",
  );
}

/** Why an ingest does not stand where its stream left it: its store is gone, it was given up, or moved on. */
export async function explainLoss(client: Queryable, { tables }: Database, key: IngestKey): Promise<Error> {
  await requireActiveStore(client, tables, key.storeId);
  const current = await findIngest(client, tables, key);
  return current?.state === "aborted" ? ingestAborted(key) : ingestConflict(key);
}

function ingestAborted(key: IngestKey) {
  return failedPrecondition(
    "INGEST_CONFLICT",
    `Ingest '${key.ingestId}' was aborted and cannot go on.`,
    "open.ingest_id",
  );
}

const MODES = new Map<WriteMode, IngestSettings["mode"]>([
  [WriteMode.UNSPECIFIED, "insert"],
  [WriteMode.INSERT, "insert"],
  [WriteMode.UPSERT, "upsert"],
  [WriteMode.SKIP_EXISTING, "skip_existing"],
]);

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

function readSettings(open: IngestOpen): IngestSettings {
  const mode = MODES.get(open.mode);
  if (mode === undefined)
    throw invalidArgument("open.mode", `Invalid 'open.mode': ${open.mode} is no write mode.`);
  const atomicity = ATOMICITIES.get(open.atomicity);
  if (atomicity === undefined)
    throw invalidArgument("open.atomicity", `Invalid 'open.atomicity': ${open.atomicity} is unknown.`);
  const fallback = atomicity === "stream" ? OnErrorMessage.ABORT : OnErrorMessage.ABORT_BATCH;
  const onError = ON_ERRORS.get(open.onError === OnErrorMessage.UNSPECIFIED ? fallback : open.onError);
  if (onError === undefined)
    throw invalidArgument("open.on_error", `Invalid 'open.on_error': ${open.onError} is unknown.`);
  if (atomicity === "stream" && onError === "abort_batch") {
    const message =
      "Invalid 'open.on_error': abort_batch leaves batches out, which 'atomicity' stream forbids.";
    throw invalidArgument("open.on_error", message);
  }
  if (open.dimensions !== undefined) checkRange("open.dimensions", open.dimensions, 1, limits.dimensions_max);
  const rowErrorsMax = open.maxRowErrors ?? limits.row_errors_default;
  checkRange("open.max_row_errors", rowErrorsMax, 0, limits.row_errors_max);
  return { mode, atomicity, onError, dimensions: open.dimensions ?? null, rowErrorsMax };
}
