import { makeIdentifier } from "../api/identifier.ts";
import { aborted, failedPrecondition, invalidArgument } from "../errors.ts";
import type { Database, Queryable } from "../postgres/database.ts";
import { requireActiveStore } from "../storage/require.ts";
import type { VectorStoreRow } from "../storage/stores.ts";
import { findIngest, openIngest, type IngestKey, type IngestRow } from "./ingests.ts";
import type { IngestSettings, OpenRequest } from "./request.ts";

/** An open stream. */
export interface IngestSession {
  key: IngestKey;
  settings: IngestSettings;
  store: VectorStoreRow;
  ingest: IngestRow;
  /** Type OID of `vector` in this database. */
  vectorOid: number;
}

/** Opens the ingest a stream is for, new or known. */
export async function openIngestSession(
  { pool, tables }: Database,
  { storeId, ingestId, settings }: OpenRequest,
): Promise<IngestSession> {
  const store = await requireActiveStore(pool, tables, storeId);
  if (settings.dimensions !== null && store.dimensions !== null && settings.dimensions !== store.dimensions) {
    const message = `Invalid 'open.dimensions': vector store '${store.id}' holds vectors of ${store.dimensions} dimensions, but got ${settings.dimensions}.`;
    throw invalidArgument("open.dimensions", message, "DIMENSION_MISMATCH");
  }
  const key = {
    storeId: store.id,
    ingestId: ingestId ?? makeIdentifier("ing").id,
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
