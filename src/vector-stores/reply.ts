import { create } from "@bufbuild/protobuf";
import {
  ExpiryAnchor,
  VectorStoreSchema,
  VectorStoreStatus,
  type VectorStore,
} from "../../gen/pgquiver/v1/vector_stores_pb.ts";
import { toSeconds } from "../api/time.ts";
import type { Readers } from "../filters/readers.ts";
import { INDEX_STATES, PRECISIONS } from "../indexes/enums.ts";
import { localId } from "../store-id.ts";
import type { VectorStoreRow } from "../storage/stores.ts";

/**
 * Converts a store's row to the API's message. `language` is the service's default, for stores that name
 * none. Callers with readers see no counts of a store that restricts them.
 */
export function toVectorStore(stored: VectorStoreRow, language: string, readers: Readers): VectorStore {
  const row = stored.restricts_readers && readers !== undefined ? withoutCounts(stored) : stored;
  return create(VectorStoreSchema, {
    id: localId(row.id),
    object: "vector_store",
    createdAt: toSeconds(row.created_at),
    // OpenAI's schema has no null here, and its client for Python refuses null where it validates strictly.
    name: row.name ?? "",
    ...(row.description !== null && { description: row.description }),
    usageBytes: BigInt(row.usage_bytes),
    fileCounts: {
      inProgress: BigInt(row.file_counts.in_progress),
      completed: BigInt(row.file_counts.completed),
      failed: BigInt(row.file_counts.failed),
      cancelled: BigInt(row.file_counts.cancelled),
      total: BigInt(row.file_counts.total),
    },
    status: toStatus(row),
    ...(row.expires_after !== null && {
      expiresAfter: { anchor: ExpiryAnchor.LAST_ACTIVE_AT, days: row.expires_after.days },
    }),
    ...(row.expires_at !== null && { expiresAt: toSeconds(row.expires_at) }),
    ...(row.last_active_at !== null && { lastActiveAt: toSeconds(row.last_active_at) }),
    metadata: toStrings(row.metadata),
    ...(row.dimensions !== null && { dimensions: row.dimensions }),
    ...(row.embedding_model !== null && { embeddingModel: row.embedding_model }),
    embeddingCount: BigInt(row.embedding_count),
    ...(row.precision !== null && { precision: PRECISIONS[row.precision] }),
    language: row.language ?? language,
    indexState: INDEX_STATES[row.index_state],
    restrictReaders: row.restricts_readers,
  });
}

/** Counts would tell callers who see some of the store how much there is besides. */
function withoutCounts(row: VectorStoreRow): VectorStoreRow {
  const none = { in_progress: 0, completed: 0, failed: 0, cancelled: 0, total: 0 };
  return { ...row, usage_bytes: "0", embedding_count: "0", file_counts: none };
}

function toStatus(row: VectorStoreRow): VectorStoreStatus {
  if (row.expired) return VectorStoreStatus.EXPIRED;
  return row.file_counts.in_progress > 0 ? VectorStoreStatus.IN_PROGRESS : VectorStoreStatus.COMPLETED;
}

/**
 * Converts metadata values to strings, OpenAI's type: litellm-pgvector's rows may hold values of any JSON
 * type.
 */
function toStrings(metadata: Record<string, unknown> | null): Record<string, string> {
  const pairs = Object.entries(metadata ?? {});
  return Object.fromEntries(
    pairs.map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
  );
}
