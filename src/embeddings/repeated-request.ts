import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { idempotencyConflict } from "../errors.ts";
import { encodeVector } from "../postgres/copy.ts";
import type { Database } from "../postgres/database.ts";
import { readPlaced } from "../storage/placement.ts";
import type { VectorStoreRow } from "../storage/stores.ts";
import { findFingerprints, type Fingerprint } from "./fingerprints.ts";
import type { Vector } from "./vector.ts";

/** A row of a request with an idempotency key. */
interface RepeatedRow {
  id: string;
  content: string;
  /** A JSON object, as text. */
  metadata: string;
  /** Undefined when the service embeds the text. */
  vector: Vector | undefined;
  createdAt: Date;
  /** Whether the caller gave `createdAt`. */
  isDated: boolean;
}

/**
 * Finds the rows stored by an earlier request with the same idempotency key, in the order of `rows`;
 * undefined when none exist. Throws IDEMPOTENCY_CONFLICT when a stored row differs from the request's, or
 * when some were deleted since.
 */
export async function findEarlier(
  { pool, tables }: Database,
  store: VectorStoreRow,
  rows: readonly RepeatedRow[],
): Promise<{ id: string; createdAt: Date }[] | undefined> {
  const ids = rows.map((row) => row.id);
  const found = await readPlaced(pool, tables, store, (client, placed) =>
    findFingerprints(client, placed, store.id, ids),
  );
  if (found.length === 0) return undefined;
  const byId = new Map(found.map((fingerprint) => [fingerprint.id, fingerprint]));
  return rows.map((row) => {
    const earlier = byId.get(row.id);
    if (earlier === undefined || !isSame(row, earlier)) throw idempotencyConflict();
    return { id: row.id, createdAt: earlier.created_at };
  });
}

function isSame(row: RepeatedRow, earlier: Fingerprint): boolean {
  return (
    (!row.isDated || row.createdAt.getTime() === earlier.created_at.getTime()) &&
    earlier.content_hash.equals(hash(row.content)) &&
    isDeepStrictEqual(JSON.parse(row.metadata), earlier.metadata ?? {}) &&
    (row.vector === undefined || earlier.embedding_hash.equals(hash(encodeVector(row.vector))))
  );
}

function hash(value: string | Buffer): Buffer {
  return createHash("sha256").update(value).digest();
}
