import { create, type JsonObject } from "@bufbuild/protobuf";
import {
  ChunkPlaceSchema,
  EmbeddingSchema,
  type ChunkPlace,
  type Embedding,
} from "../../gen/pgquiver/v1/embeddings_pb.ts";
import { toSeconds } from "../api/time.ts";
import { decodeVector } from "../postgres/copy.ts";
import type { EmbeddingRow, StoredPlace } from "../storage/embeddings.ts";

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
    ...(row.place !== null && { place: toChunkPlace(row.place) }),
  });
}

/** The message of a chunk's place. */
export function toChunkPlace({ start, end, page, lastPage, headings }: NonNullable<StoredPlace>): ChunkPlace {
  return create(ChunkPlaceSchema, {
    startIndex: BigInt(start),
    endIndex: BigInt(end),
    ...(page !== undefined && { page }),
    ...(lastPage !== undefined && { lastPage }),
    headings: headings ?? [],
  });
}
