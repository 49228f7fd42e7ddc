import { isDeepStrictEqual } from "node:util";
import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  DeleteVectorStoreResponseSchema,
  ListVectorStoresResponseSchema,
  VectorStoreSchema,
  VectorStoreStatus,
  type CreateVectorStoreRequest,
  type ExpiresAfter,
  type UpdateVectorStoreRequest,
  type VectorStore,
  type VectorStoreService,
} from "../../gen/pgquiver/v1/vector_stores_pb.ts";
import { deleteAttachments } from "../vector-store-files/rows.ts";
import {
  alreadyExists,
  idempotencyConflict,
  invalidArgument,
  missingParameter,
  vectorStoreExpired,
  vectorStoreNotFound,
} from "../errors.ts";
import { dropOwnTable, lockIndex } from "../indexes/removal.ts";
import { deleteIngests } from "../ingest/ingests.ts";
import { limits } from "../limits.ts";
import { attachmentLock, lockExclusive } from "../postgres/advisory.ts";
import type { Client, Database, Queryable } from "../postgres/pool.ts";
import type { Tables } from "../postgres/tables.ts";
import { transaction } from "../postgres/transaction.ts";
import { deleteEmbeddings } from "../storage/embeddings.ts";
import { hasLanguage } from "./language.ts";
import { openForWriting } from "../storage/placement.ts";
import {
  deleteStore,
  findPosition,
  findStore,
  insertStore,
  listStores,
  updateStore,
  type ExpiresAfter as Expiry,
  type NewVectorStore,
  type VectorStoreChange,
  type VectorStoreRow,
} from "../storage/stores.ts";
import { attachFiles, checkFileId, type Attachable } from "../vector-store-files/attach.ts";
import { readChunking } from "../vector-store-files/chunking.ts";
import { deriveIdentifier, readIdempotencyKey } from "../api/idempotency-key.ts";
import { checkIdentifier, makeIdentifier } from "../api/identifier.ts";
import { checkPrecision, INDEX_STATES, PRECISIONS, readPrecision } from "../indexes/enums.ts";
import { checkRange, positionOfIdentifier, readPage, readPosition, toPage } from "../api/page.ts";
import { checkText } from "../api/checks.ts";

/** Creates, reads, updates, lists and deletes vector stores. `language` is that of stores that name none. */
export function vectorStoreService(
  database: Database,
  wake: () => void,
  language: string,
): ServiceImpl<typeof VectorStoreService> {
  const { pool, tables } = database;
  const toMessage = (row: VectorStoreRow) => toVectorStore(row, language);
  return {
    async createVectorStore(request, { values }) {
      const made = makeIdentifier("vs");
      const key = readIdempotencyKey(values);
      const id = request.id ?? deriveIdentifier("vs", key) ?? made.id;
      const store = { ...readNewStore(request), id, createdAt: made.createdAt };
      const files = readFileIds(request);
      await checkLanguage(pool, store.language);
      const row = await insertWithFiles(database, store, files);
      if (files.length > 0) wake();
      if (row !== undefined) return toMessage(row);
      const earlier = key === undefined ? undefined : await findStore(pool, tables, id);
      if (earlier === undefined)
        throw alreadyExists(`There is a vector store with id '${id}' already.`, "id");
      if (!isSameStore(store, earlier)) throw idempotencyConflict();
      return toMessage(earlier);
    },

    async getVectorStore(request) {
      return toMessage(await requireStore(pool, tables, request.vectorStoreId));
    },

    async listVectorStores(request) {
      const page = readPage(request);
      const find = async (id: string) => (await findPosition(pool, tables, id)) ?? positionOfIdentifier(id);
      const [after, before] = await Promise.all([
        readPosition(request.after, "after", find, "vector store"),
        readPosition(request.before, "before", find, "vector store"),
      ]);
      const rows = await listStores(pool, tables, { ...page, after, before });
      return create(ListVectorStoresResponseSchema, toPage(page, rows, toMessage));
    },

    async updateVectorStore(request) {
      const id = request.vectorStoreId;
      const change = readChange(request);
      if (id.includes("\0")) throw vectorStoreNotFound(id);
      const row = await updateStore(pool, tables, id, change);
      if (row !== undefined) return toMessage(row);
      throw await explainRefusal(pool, tables, id);
    },

    async deleteVectorStore(request) {
      const id = request.vectorStoreId;
      if (id.includes("\0")) throw vectorStoreNotFound(id);
      await transaction(pool, async (client) => {
        if (!(await removeStore(client, tables, id))) throw vectorStoreNotFound(id);
      });
      return create(DeleteVectorStoreResponseSchema, { id, object: "vector_store.deleted", deleted: true });
    },
  };
}

/** Deletes a store with all that belongs to it, in a transaction that begins with this. False when there is none. */
async function removeStore(client: Client, tables: Tables, id: string): Promise<boolean> {
  // So that the rows are not switched to another table meanwhile.
  if ((await openForWriting(client, tables, id)) === undefined) return false;
  // In the order in which everybody locks: files, catalog, store, rows.
  await lockExclusive(client, tables, attachmentLock(id));
  await deleteAttachments(client, tables, id);
  await lockIndex(client, tables, id);
  if (!(await deleteStore(client, tables, id))) return false;
  await deleteEmbeddings(client, tables, id);
  await dropOwnTable(client, tables, id);
  await deleteIngests(client, tables, id);
  return true;
}

/** Reads a store, expired or not; NOT_FOUND when there is none. */
export async function requireStore(client: Queryable, tables: Tables, id: string): Promise<VectorStoreRow> {
  // Postgres text cannot hold NUL, so no store has such an id.
  const row = id.includes("\0") ? undefined : await findStore(client, tables, id);
  if (row === undefined) throw vectorStoreNotFound(id);
  return row;
}

/** Reads a store that can be used; NOT_FOUND when there is none, VECTOR_STORE_EXPIRED when it has expired. */
export async function requireActiveStore(
  client: Queryable,
  tables: Tables,
  id: string,
): Promise<VectorStoreRow> {
  const row = await requireStore(client, tables, id);
  if (row.expired) throw vectorStoreExpired(id);
  return row;
}

/** Why a write that should have met an active store met none. */
async function explainRefusal(client: Queryable, tables: Tables, id: string): Promise<unknown> {
  return requireActiveStore(client, tables, id).then(
    () => vectorStoreNotFound(id),
    (error: unknown) => error,
  );
}

function readNewStore(request: CreateVectorStoreRequest) {
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
  };
}

/** Whether a store is as its creator asked for it. */
function isSameStore(asked: NewVectorStore, store: VectorStoreRow): boolean {
  return (
    asked.name === store.name &&
    asked.description === store.description &&
    isDeepStrictEqual({ ...asked.metadata }, store.metadata) &&
    isDeepStrictEqual(asked.expiresAfter, store.expires_after) &&
    [store.dimensions, null].includes(asked.dimensions) &&
    [store.precision, null].includes(asked.precision) &&
    [store.language, null].includes(asked.language)
  );
}

const CHANGEABLE = ["name", "expires_after", "metadata"] as const;

function readChange(request: UpdateVectorStoreRequest): VectorStoreChange {
  const paths = request.updateMask?.paths ?? [];
  for (const path of paths) {
    if (!(CHANGEABLE as readonly string[]).includes(path)) {
      throw invalidArgument(
        "update_mask",
        `Invalid 'update_mask': '${path}' cannot be changed. Supported values are: ${CHANGEABLE.join(", ")}.`,
      );
    }
  }
  const isSet = {
    name: request.name,
    expires_after: request.expiresAfter,
    metadata: Object.keys(request.metadata)[0],
  };
  const changes = (field: (typeof CHANGEABLE)[number]) =>
    paths.length === 0 ? isSet[field] !== undefined : paths.includes(field);
  return {
    ...(changes("name") && { name: readText(request.name, "name", limits.store_name_chars_max) }),
    ...(changes("expires_after") && { expiresAfter: readExpiry(request.expiresAfter) }),
    ...(changes("metadata") && { metadata: readMetadata(request.metadata) }),
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

async function checkLanguage(client: Queryable, language: string | null): Promise<void> {
  if (language === null || (await hasLanguage(client, language))) return;
  throw invalidArgument(
    "language",
    `Invalid 'language': the database has no text search configuration '${language}'.`,
  );
}

function readExpiry(expiry: ExpiresAfter | undefined): Expiry | null {
  if (expiry === undefined) return null;
  if (expiry.anchor === "") throw missingParameter("expires_after.anchor");
  if (expiry.anchor !== "last_active_at") {
    throw invalidArgument(
      "expires_after.anchor",
      `Invalid value: '${expiry.anchor}'. Supported values are: 'last_active_at'.`,
    );
  }
  if (expiry.days === undefined) throw missingParameter("expires_after.days");
  checkRange("expires_after.days", expiry.days, 1, limits.expiry_days_max);
  return { anchor: expiry.anchor, days: expiry.days };
}

function readMetadata(metadata: Record<string, string>): Record<string, string> {
  const pairs = Object.entries(metadata);
  if (pairs.length > limits.store_metadata_pairs_max) {
    const message = `Invalid 'metadata': too many properties. Expected at most ${limits.store_metadata_pairs_max}, but got ${pairs.length} instead.`;
    throw invalidArgument("metadata", message, "OBJECT_ABOVE_MAX_PROPERTIES");
  }
  for (const [key, value] of pairs) {
    if (key === "") throw invalidArgument("metadata", "Invalid 'metadata': a key is empty.");
    checkText(key, "metadata", limits.store_metadata_key_chars_max);
    checkText(value, `metadata.${key}`, limits.store_metadata_value_chars_max);
  }
  return metadata;
}

function readFileIds(request: CreateVectorStoreRequest): Attachable[] {
  const chunking = readChunking(request.chunkingStrategy);
  const { length } = request.fileIds;
  if (length > limits.store_files_max) {
    const message = `Invalid 'file_ids': array too long. Expected an array with maximum length ${limits.store_files_max}, but got an array with length ${length} instead.`;
    throw invalidArgument("file_ids", message, "ARRAY_ABOVE_MAX_LENGTH");
  }
  return request.fileIds.map((fileId, index) => {
    const param = `file_ids[${index}]`;
    checkFileId(fileId, param);
    return { fileId, attributes: null, chunking, param };
  });
}

/** Inserts a store together with its first files, and returns its row; undefined when the id is taken. */
async function insertWithFiles(
  { pool, tables }: Database,
  store: NewVectorStore,
  files: readonly Attachable[],
): Promise<VectorStoreRow | undefined> {
  if (files.length === 0) return insertStore(pool, tables, store);
  return transaction(pool, async (client) => {
    const row = await insertStore(client, tables, store);
    if (row === undefined || !(await attachFiles(client, tables, store.id, files))) return undefined;
    return findStore(client, tables, store.id);
  });
}

function toVectorStore(row: VectorStoreRow, language: string): VectorStore {
  return create(VectorStoreSchema, {
    id: row.id,
    object: "vector_store",
    createdAt: toSeconds(row.created_at),
    ...(row.name !== null && { name: row.name }),
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
    ...(row.expires_after !== null && { expiresAfter: row.expires_after }),
    ...(row.expires_at !== null && { expiresAt: toSeconds(row.expires_at) }),
    ...(row.last_active_at !== null && { lastActiveAt: toSeconds(row.last_active_at) }),
    metadata: toStrings(row.metadata),
    ...(row.dimensions !== null && { dimensions: row.dimensions }),
    ...(row.embedding_model !== null && { embeddingModel: row.embedding_model }),
    embeddingCount: BigInt(row.embedding_count),
    ...(row.precision !== null && { precision: PRECISIONS[row.precision] }),
    language: row.language ?? language,
    indexState: INDEX_STATES[row.index_state],
  });
}

function toStatus(row: VectorStoreRow): VectorStoreStatus {
  if (row.expired) return VectorStoreStatus.EXPIRED;
  return row.file_counts.in_progress > 0 ? VectorStoreStatus.IN_PROGRESS : VectorStoreStatus.COMPLETED;
}

/** Whole seconds since 1970, as OpenAI shows times. */
export function toSeconds(date: Date): bigint {
  return BigInt(Math.floor(date.getTime() / 1000));
}

/** litellm-pgvector stored values of any type; OpenAI's are strings. */
function toStrings(metadata: Record<string, unknown> | null): Record<string, string> {
  const pairs = Object.entries(metadata ?? {});
  return Object.fromEntries(
    pairs.map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
  );
}
