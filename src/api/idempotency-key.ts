import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { createContextKey, type ContextValues } from "@connectrpc/connect";
import { idempotencyConflict, invalidArgument } from "../errors.ts";
import type { Vector } from "../embeddings/row.ts";
import { limits } from "../limits.ts";
import { encodeVector } from "../postgres/copy.ts";
import type { Database } from "../postgres/pool.ts";
import { findFingerprints, type Fingerprint } from "../embeddings/fingerprints.ts";
import { readPlaced } from "../storage/placement.ts";
import type { VectorStoreRow } from "../storage/stores.ts";

/** The header `Idempotency-Key` as it came; undefined without. */
export const idempotencyHeader = createContextKey<string | undefined>(undefined);

/** Reads the key under which a caller may repeat a request: 1 to 255 printable ASCII characters. */
export function readIdempotencyKey(values: ContextValues): string | undefined {
  const key = values.get(idempotencyHeader);
  if (key === undefined || (/^[ -~]+$/.test(key) && key.length <= limits.idempotency_key_chars_max))
    return key;
  throw invalidArgument(
    "Idempotency-Key",
    `Invalid 'Idempotency-Key': expected 1 to ${limits.idempotency_key_chars_max} printable ASCII characters.`,
  );
}

/**
 * Makes the id a key stands for, undefined without one: the prefix and the 32 hexadecimal digits of a UUID version 8 (RFC 9562, 5.8) of the
 * first 128 bits of a SHA-256. `place` says what in which request it is for. So a repeated request meets what the
 * first one stored. Such ids do not sort by time.
 */
export function deriveIdentifier(
  prefix: "vs" | "emb",
  key: string | undefined,
  ...place: readonly (string | number)[]
): string | undefined {
  if (key === undefined) return undefined;
  const bytes = createHash("sha256")
    .update(JSON.stringify([prefix, key, ...place]))
    .digest()
    .subarray(0, 16);
  bytes[6] = 0x80 | (Number(bytes[6]) & 0x0f);
  bytes[8] = 0x80 | (Number(bytes[8]) & 0x3f);
  return `${prefix}_${bytes.toString("hex")}`;
}

/** A row of a request that may be a repetition. */
interface RepeatedRow {
  id: string;
  content: string;
  /** A JSON object, as text. */
  metadata: string;
  /** Undefined where the service makes it of the text. */
  vector: Vector | undefined;
}

/**
 * Finds the rows an earlier request with the same key has stored, in the order of `rows`; undefined when there are
 * none. IDEMPOTENCY_CONFLICT when they are not the same, or not all there any more.
 */
export async function findEarlier(
  { pool, tables }: Database,
  store: VectorStoreRow,
  rows: readonly RepeatedRow[],
): Promise<{ id: string; createdAt: Date }[] | undefined> {
  const ids = rows.map((row) => row.id);
  const found = await readPlaced(pool, tables, store, (placed) =>
    findFingerprints(pool, placed, store.id, ids),
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
    earlier.content_hash.equals(hash(row.content)) &&
    isDeepStrictEqual(JSON.parse(row.metadata), earlier.metadata ?? {}) &&
    (row.vector === undefined || earlier.embedding_hash.equals(hash(encodeVector(row.vector))))
  );
}

function hash(value: string | Buffer): Buffer {
  return createHash("sha256").update(value).digest();
}
