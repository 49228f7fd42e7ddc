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
import {
  alreadyExists,
  invalidArgument,
  missingParameter,
  unimplemented,
  vectorStoreExpired,
  vectorStoreNotFound,
} from "../errors.ts";
import { deleteIngests } from "../ingest/ingests.ts";
import { limits } from "../limits.ts";
import type { Database, Queryable } from "../postgres/pool.ts";
import type { Tables } from "../postgres/tables.ts";
import { transaction } from "../postgres/transaction.ts";
import { deleteEmbeddings } from "../stores/embeddings.ts";
import {
  deleteStore,
  findPosition,
  findStore,
  insertStore,
  listStores,
  updateStore,
  type ExpiresAfter as Expiry,
  type Position,
  type VectorStoreChange,
  type VectorStoreRow,
} from "../stores/stores.ts";
import { checkIdentifier, makeIdentifier, timeOfIdentifier } from "./identifier.ts";
import { checkRange, readPage, toPage } from "./page.ts";
import { checkText } from "./text.ts";

/** Creates, reads, updates, lists and deletes vector stores. */
export function vectorStoreService({ pool, tables }: Database): ServiceImpl<typeof VectorStoreService> {
  return {
    async createVectorStore(request) {
      const made = makeIdentifier("vs");
      const id = request.id ?? made.id;
      const row = await insertStore(pool, tables, {
        ...readNewStore(request),
        id,
        createdAt: made.createdAt,
      });
      if (row === undefined) throw alreadyExists(`There is a vector store with id '${id}' already.`, "id");
      return toVectorStore(row);
    },

    async getVectorStore(request) {
      return toVectorStore(await requireStore(pool, tables, request.vectorStoreId));
    },

    async listVectorStores(request) {
      const page = readPage(request);
      const [after, before] = await Promise.all([
        readPosition(pool, tables, request.after, "after"),
        readPosition(pool, tables, request.before, "before"),
      ]);
      const rows = await listStores(pool, tables, { ...page, after, before });
      return create(ListVectorStoresResponseSchema, toPage(page, rows, toVectorStore));
    },

    async updateVectorStore(request) {
      const id = request.vectorStoreId;
      const change = readChange(request);
      if (id.includes("\0")) throw vectorStoreNotFound(id);
      const row = await updateStore(pool, tables, id, change);
      if (row !== undefined) return toVectorStore(row);
      throw await explainRefusal(pool, tables, id);
    },

    async deleteVectorStore(request) {
      const id = request.vectorStoreId;
      if (id.includes("\0")) throw vectorStoreNotFound(id);
      await transaction(pool, async (client) => {
        if (!(await deleteStore(client, tables, id))) throw vectorStoreNotFound(id);
        await deleteEmbeddings(client, tables, id);
        await deleteIngests(client, tables, id);
      });
      return create(DeleteVectorStoreResponseSchema, { id, object: "vector_store.deleted", deleted: true });
    },
  };
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

async function readPosition(
  client: Queryable,
  tables: Tables,
  id: string | undefined,
  param: string,
): Promise<Position | undefined> {
  if (id === undefined) return undefined;
  const position = id.includes("\0") ? undefined : await findPosition(client, tables, id);
  if (position !== undefined) return position;
  // A loop that deletes what it lists comes with the id of a store it has just deleted.
  const createdAt = timeOfIdentifier(id);
  if (createdAt !== undefined) return { created_at: createdAt.toISOString(), id };
  throw invalidArgument(param, `Invalid '${param}': no vector store found with id '${id}'.`);
}

function readNewStore(request: CreateVectorStoreRequest) {
  if (request.id !== undefined) checkIdentifier(request.id, "id");
  if (request.fileIds.length > 0)
    throw unimplemented("Files are not available in this version of pgquiver.", "file_ids");
  if (request.dimensions !== undefined)
    checkRange("dimensions", request.dimensions, 1, limits.dimensions_max);
  checkChunking(request.chunkingStrategy);
  return {
    name: readText(request.name, "name", limits.store_name_chars_max),
    description: readText(request.description, "description", limits.store_description_chars_max),
    metadata: readMetadata(request.metadata),
    expiresAfter: readExpiry(request.expiresAfter),
    dimensions: request.dimensions ?? null,
  };
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

function readExpiry(expiry: ExpiresAfter | undefined): Expiry | null {
  if (expiry === undefined) return null;
  if (expiry.anchor === "") throw missingParameter("expires_after.anchor");
  if (expiry.anchor !== "last_active_at") {
    throw invalidArgument(
      "expires_after.anchor",
      `Invalid value: '${expiry.anchor}'. Supported values are: 'last_active_at'.`,
    );
  }
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

function checkChunking(strategy: CreateVectorStoreRequest["chunkingStrategy"]): void {
  if (strategy === undefined) return;
  const { type, static: sizes } = strategy;
  if (type === "") throw missingParameter("chunking_strategy.type");
  if (type !== "auto" && type !== "static") {
    throw invalidArgument(
      "chunking_strategy.type",
      `Invalid value: '${type}'. Supported values are: 'auto', 'static'.`,
    );
  }
  if (type === "static" && sizes === undefined) throw missingParameter("chunking_strategy.static");
  if (type === "auto" && sizes !== undefined) {
    throw invalidArgument(
      "chunking_strategy.static",
      "Invalid 'chunking_strategy.static': only allowed with type 'static'.",
    );
  }
  if (sizes === undefined) return;
  checkRange("chunking_strategy.static.max_chunk_size_tokens", sizes.maxChunkSizeTokens, 100, 4096);
  const half = Math.floor(sizes.maxChunkSizeTokens / 2);
  checkRange("chunking_strategy.static.chunk_overlap_tokens", sizes.chunkOverlapTokens, 0, half);
}

function toVectorStore(row: VectorStoreRow): VectorStore {
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
