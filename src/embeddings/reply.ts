import { create, type JsonObject } from "@bufbuild/protobuf";
import { EmbeddingSchema, type Embedding } from "../../gen/pgquiver/v1/embeddings_pb.ts";
import { toSeconds } from "../api/time.ts";
import { decodeVector } from "../postgres/copy.ts";
import type { EmbeddingRow } from "../storage/embeddings.ts";

/** The message of a row. */
export function toEmbedding(storeId: string, row: EmbeddingRow): Embedding {
  return create(EmbeddingSchema, {
    id: row.id,
    object: "embedding",
    vectorStoreId: storeId,
    content: row.content,
    metadata: (row.metadata ?? {}) as JsonObject,
    createdAt: toSeconds(row.created_at),
    ...(row.embedding !== null && { embedding: Array.from(decodeVector(row.embedding)) }),
  });
}
