import { create, type JsonObject } from "@bufbuild/protobuf";
import {
  ExportedItemSchema,
  ProjectErasureSchema,
  type ExportedItem,
  type ProjectErasure,
} from "../../gen/pgquiver/v1/project_data_pb.ts";
import { toSeconds } from "../api/time.ts";
import { toFile } from "../files/reply.ts";
import { decodeVector } from "../postgres/copy.ts";
import { localId } from "../store-id.ts";
import { toStoreFile } from "../vector-store-files/reply.ts";
import { toVectorStore } from "../vector-stores/reply.ts";
import type { ErasureRow } from "./erasures.ts";
import type { StoredItem } from "./export.ts";

/** Converts an item of an export to the API's message. `language` is the service's default, for stores that name none. */
export function toItem(stored: StoredItem, language: string): ExportedItem {
  return create(ExportedItemSchema, { item: itemOf(stored, language) as ExportedItem["item"] });
}

function itemOf(stored: StoredItem, language: string) {
  switch (stored.kind) {
    case "file":
      return { case: "file", value: toFile(stored.row) };
    case "data":
      return { case: "fileData", value: stored.bytes };
    case "store":
      return { case: "vectorStore", value: toVectorStore(stored.row, language, undefined) };
    case "attachment": {
      const value = toStoreFile(stored.row);
      return {
        case: "vectorStoreFile",
        value: { ...value, vectorStoreId: localId(stored.row.vector_store_id) },
      };
    }
    case "row": {
      const { id, content, embedding, metadata, created_at: createdAt, file_id: fileId } = stored.row;
      const vector = embedding === null ? new Uint8Array() : new Uint8Array(decodeVector(embedding).buffer);
      const value = {
        id,
        content,
        embedding: vector,
        metadata: (metadata ?? {}) as JsonObject,
        createdAt: toSeconds(createdAt),
        ...(fileId !== null && { fileId }),
      };
      return { case: "row", value };
    }
  }
}

/** Converts an erasure's row to the API's message. */
export function toErasure(row: ErasureRow): ProjectErasure {
  return create(ProjectErasureSchema, {
    object: "organization.project.erasure",
    projectId: row.project_id,
    status: row.state,
    requestedAt: toSeconds(row.requested_at),
    requestedBy: row.requested_by,
    ...(row.completed_at !== null && { completedAt: toSeconds(row.completed_at) }),
    vectorStores: BigInt(row.vector_stores),
    rows: BigInt(row.rows),
    usageBytes: BigInt(row.usage_bytes),
    files: BigInt(row.files),
    fileBytes: BigInt(row.file_bytes),
    apiKeys: BigInt(row.api_keys),
    otherRows: BigInt(row.other_rows),
    ...(row.remaining_rows !== null && { remainingRows: BigInt(row.remaining_rows) }),
    ...(row.last_error !== null && { lastError: row.last_error }),
  });
}
