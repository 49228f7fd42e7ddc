import { makeIdentifier } from "../api/identifier.ts";
import { aborted, failedPrecondition, invalidArgument, readersRestricted } from "../errors.ts";
import type { Readers } from "../filters/readers.ts";
import type { Payer } from "../models/embedder.ts";
import { resolveInDoubt } from "../postgres/citus/in-doubt.ts";
import type { Database, Queryable } from "../postgres/database.ts";
import { transaction, withClient } from "../postgres/transaction.ts";
import { requireActiveStore } from "../storage/require.ts";
import type { VectorStoreRow } from "../storage/stores.ts";
import { findIngest, openIngest, type IngestKey, type IngestRow } from "./ingests.ts";
import type { IngestSettings, OpenRequest } from "./request.ts";
import { localId } from "../store-id.ts";

/** A stream's store and ingest, read when the stream was opened. */
export interface IngestSession {
  key: IngestKey;
  settings: IngestSettings;
  store: VectorStoreRow;
  /** Who pays for the embeddings of its texts. */
  payer: Payer;
  ingest: IngestRow;
  /** OID of pgvector's type `vector` in this database, needed for binary parameters. */
  vectorOid: number;
}

/**
 * Opens the ingest of a stream, new or existing. Throws NOT_FOUND, VECTOR_STORE_EXPIRED, DIMENSION_MISMATCH,
 * or INGEST_CONFLICT when the ingest was opened with other settings or aborted.
 */
export async function openIngestSession(
  { pool, tables, citus }: Database,
  { storeId, ingestId, settings, rowsAnnounced }: OpenRequest,
  caller: Payer & { readers?: Readers },
): Promise<IngestSession> {
  const store = await requireActiveStore(pool, tables, storeId);
  if (store.restricts_readers && caller.readers !== undefined) throw readersRestricted(store.id);
  if (settings.dimensions !== null && store.dimensions !== null && settings.dimensions !== store.dimensions) {
    const message = `Invalid 'open.dimensions': vector store '${localId(store.id)}' holds vectors of ${store.dimensions} dimensions, but got ${settings.dimensions}.`;
    throw invalidArgument("open.dimensions", message, "DIMENSION_MISMATCH");
  }
  const key = {
    storeId: store.id,
    ingestId: ingestId ?? makeIdentifier("ing").id,
  };
  const opened = await transaction(pool, (client) =>
    openIngest(client, tables, key, settings, rowsAnnounced),
  );
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
  // The acknowledgement of rows that an earlier stream has committed: they must be visible.
  if (citus !== undefined && ingest.through_seq !== "0")
    await withClient(pool, undefined, (client) => resolveInDoubt(client));
  return { key, settings, store, payer: caller, ingest, vectorOid };
}

/**
 * ABORTED: another stream has advanced the ingest, so the client must reopen it to learn its `through_seq`.
 */
export function ingestConflict(key: IngestKey) {
  return aborted(
    "INGEST_CONFLICT",
    `Ingest '${key.ingestId}' was advanced by another stream. Open the ingest again to resume.`,
    "open.ingest_id",
  );
}

/**
 * The error for a failed compare-and-set: the store is deleted or expired, or the ingest was aborted or
 * advanced.
 */
export async function explainLoss(client: Queryable, { tables }: Database, key: IngestKey): Promise<Error> {
  await requireActiveStore(client, tables, key.storeId);
  const current = await findIngest(client, tables, key);
  return current?.state === "aborted" ? ingestAborted(key) : ingestConflict(key);
}

function ingestAborted(key: IngestKey) {
  return failedPrecondition(
    "INGEST_CONFLICT",
    `Ingest '${key.ingestId}' was aborted and cannot be resumed.`,
    "open.ingest_id",
  );
}
