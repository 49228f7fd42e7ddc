import {
  ExpiryAnchor,
  type CreateVectorStoreRequest,
  type ExpiresAfter,
  type UpdateVectorStoreRequest,
} from "../../gen/pgquiver/v1/vector_stores_pb.ts";
import { checkLength, checkPairs, checkRange, checkText } from "../api/checks.ts";
import { checkIdentifier } from "../api/identifier.ts";
import { readUpdateMask } from "../api/update-mask.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { checkPrecision, readPrecision } from "../indexes/enums.ts";
import { limits } from "../limits.ts";
import type { ExpiresAfter as Expiry, NewVectorStore, VectorStoreChange } from "../storage/stores.ts";
import { checkFileId, type Attachable } from "../vector-store-files/attach.ts";
import { readChunking } from "../vector-store-files/request.ts";

/** Validates the request for a new store. Throws INVALID_ARGUMENT. */
export function readNewStore(request: CreateVectorStoreRequest): Omit<NewVectorStore, "id" | "createdAt"> {
  if (request.id !== undefined) checkIdentifier(request.id, "id");
  if (request.dimensions !== undefined)
    checkRange("dimensions", request.dimensions, 1, limits.dimensions_max);
  const precision = readPrecision(request.precision) ?? null;
  checkPrecision(precision, request.dimensions ?? null);
  return {
    name: readText(request.name, "name", limits.store_name_chars_max),
    description: readText(request.description, "description", limits.store_description_chars_max),
    metadata: readMetadata(request.metadata),
    expiresAfter: readExpiry(request.expiresAfter),
    dimensions: request.dimensions ?? null,
    precision,
    language: request.language === undefined ? null : readLanguage(request.language),
    restrictsReaders: request.restrictReaders ?? false,
  };
}

/**
 * Validates an update and returns the fields to change: those in `update_mask`, or without a mask those that
 * are set. Throws INVALID_ARGUMENT.
 */
export function readChange(request: UpdateVectorStoreRequest): VectorStoreChange {
  const fields = readUpdateMask(request.updateMask, {
    name: request.name !== undefined,
    expires_after: request.expiresAfter !== undefined,
    metadata: Object.keys(request.metadata).length > 0,
    restrict_readers: request.restrictReaders !== undefined,
  });
  const { restrictReaders } = request;
  if (fields.has("restrict_readers") && restrictReaders === undefined)
    throw missingParameter("restrict_readers");
  return {
    ...(fields.has("name") && { name: readText(request.name, "name", limits.store_name_chars_max) }),
    ...(fields.has("expires_after") && { expiresAfter: readExpiry(request.expiresAfter) }),
    ...(fields.has("metadata") && { metadata: readMetadata(request.metadata) }),
    ...(restrictReaders !== undefined &&
      fields.has("restrict_readers") && { restrictsReaders: restrictReaders }),
  };
}

function readText(text: string | undefined, param: string, charsMax: number): string | null {
  if (text === undefined) return null;
  checkText(text, param, charsMax);
  return text;
}

function readLanguage(language: string): string {
  checkText(language, "language", limits.language_chars_max);
  return language;
}

function readExpiry(expiry: ExpiresAfter | undefined): Expiry | null {
  if (expiry === undefined) return null;
  if (expiry.anchor === ExpiryAnchor.UNSPECIFIED) throw missingParameter("expires_after.anchor");
  if (expiry.anchor !== ExpiryAnchor.LAST_ACTIVE_AT) {
    throw invalidArgument(
      "expires_after.anchor",
      `Invalid value: '${expiry.anchor as number}'. Supported values are: 'last_active_at'.`,
    );
  }
  if (expiry.days === undefined) throw missingParameter("expires_after.days");
  checkRange("expires_after.days", expiry.days, 1, limits.expiry_days_max);
  return { anchor: "last_active_at", days: expiry.days };
}

function readMetadata(metadata: Record<string, string>): Record<string, string> {
  const pairs = Object.entries(metadata);
  checkPairs("metadata", pairs.length, limits.store_metadata_pairs_max);
  for (const [key, value] of pairs) {
    if (key === "") throw invalidArgument("metadata", "Invalid 'metadata': a key is empty.");
    checkText(key, "metadata", limits.store_metadata_key_chars_max);
    checkText(value, `metadata.${key}`, limits.store_metadata_value_chars_max);
  }
  return metadata;
}

/** Validates the files to attach to a new store. Throws INVALID_ARGUMENT. */
export function readFileIds(request: CreateVectorStoreRequest): Attachable[] {
  const chunking = readChunking(request.chunkingStrategy);
  checkLength("file_ids", request.fileIds.length, limits.store_files_max);
  return request.fileIds.map((fileId, index) => {
    const param = `file_ids[${index}]`;
    checkFileId(fileId, param);
    return { fileId, attributes: null, chunking, param };
  });
}
