import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  BatchCreateEmbeddingsResponseSchema,
  BatchDeleteEmbeddingsResponseSchema,
  DeleteEmbeddingResponseSchema,
  EmbeddingSchema,
  ListEmbeddingsResponseSchema,
  PurgeEmbeddingsResponseSchema,
  type Embedding,
  type EmbeddingInput,
  type EmbeddingService,
} from "../../gen/pgquiver/v1/embeddings_pb.ts";
import { Scope } from "../../gen/pgquiver/v1/options_pb.ts";
import { checkLength, checkStorable } from "../api/checks.ts";
import { readIdempotencyKey } from "../api/idempotency-key.ts";
import { readPage, toPage } from "../api/page.ts";
import { mapInTurns } from "../api/concurrency/bulk-turns.ts";
import { principal, requireScope } from "../api/principal.ts";
import type { Limiter } from "../api/rates/limiter.ts";
import { toSeconds } from "../api/time.ts";
import { embeddingNotFound, missingParameter } from "../errors.ts";
import { readFilter } from "../filters/message.ts";
import { visibleTo } from "../filters/readers.ts";
import { wordsOf } from "../filters/words.ts";
import { compileFilter } from "../filters/sql.ts";
import { limits } from "../limits.ts";
import type { Embedder } from "../models/embedder.ts";
import type { Client, Database } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { isStorable } from "../postgres/text.ts";
import { countRemovalStatement } from "../storage/counts.ts";
import {
  deleteEmbeddings,
  deleteEmbeddingsById,
  findEmbedding,
  listEmbeddings,
  type EmbeddingRow,
  type Removed,
  type RowCondition,
} from "../storage/embeddings.ts";
import { readPlaced, writeStoreFramed } from "../storage/placement.ts";
import { requireStore } from "../storage/require.ts";
import { addEmbeddings } from "./add.ts";
import { GroupCommit } from "./group-commit.ts";
import { GroupDeletion } from "./group-deletion.ts";
import { toEmbedding } from "./reply.ts";
import { querying, type QueryOptions } from "./query/service.ts";
import type { Addressing } from "./input.ts";
import { mergeEmbeddings } from "./merge.ts";
import { readEmbeddingChange, readWriteMode, unpackVector, type UnpackedInput } from "./request.ts";
import type { Row } from "./row.ts";
import { changeEmbedding } from "./update.ts";
import type { WriteMode } from "./upsert.ts";

type Methods = ServiceImpl<typeof EmbeddingService>;

/** Implements EmbeddingService: adding, reading and removing embeddings by unary calls. */
export function embeddingService(
  database: Database,
  embedder: Embedder,
  limiter: Limiter,
  queries: QueryOptions,
): Methods {
  return {
    ...creation(
      database,
      embedder,
      new GroupCommit(database, (project) => limiter.mayHaveQuotas(project)),
      limiter,
    ),
    ...reading(database),
    ...querying(database, queries),
    ...updating(database, embedder, limiter),
    ...removal(database, queries),
  };
}

function creation(
  database: Database,
  embedder: Embedder,
  commits: GroupCommit,
  limiter: Limiter,
): Pick<Methods, "createEmbedding" | "batchCreateEmbeddings"> {
  const add = async (mode: WriteMode, inputs: readonly UnpackedInput[], addressing: Addressing) => {
    if (mode !== "insert") return mergeEmbeddings(database, embedder, inputs, mode, addressing);
    const written = await addEmbeddings(database, embedder, commits, inputs, addressing);
    return { written: written.map((row, place) => ({ ...row, place })), skippedIds: [] };
  };
  return {
    async createEmbedding(request, { signal, values }) {
      const { vectorStoreId: id } = request;
      const mode = readWriteMode(request.mode, "mode");
      const payer = values.get(principal);
      if (request.embedding === undefined) throw missingParameter("embedding");
      // The reply may be what another caller has stored.
      if (mode === "skip_existing") requireScope(payer, Scope.EMBEDDINGS_READ);
      limiter.takeRows(payer, 1);
      const embedding = unpackVector(request.embedding);
      const path = () => "";
      const idempotencyKey = readIdempotencyKey(values);
      const addressing = { storeId: id, path, idempotencyKey, payer, signal };
      const { written, skippedIds } = await add(mode, [embedding], addressing);
      const [row] = written;
      if (row !== undefined) return toCreated(id, embedding, row);
      return toEmbedding(id, {
        ...(await requireEmbedding(database, id, skippedIds[0] ?? "")),
        embedding: null,
      });
    },

    async batchCreateEmbeddings(request, { signal, values }) {
      const { vectorStoreId, includeContent = false } = request;
      const mode = readWriteMode(request.mode, "mode");
      if (request.embeddings.length === 0) throw missingParameter("embeddings");
      checkLength("embeddings", request.embeddings.length, limits.batch_rows_max);
      limiter.takeRows(values.get(principal), request.embeddings.length);
      const embeddings = request.embeddings.map(unpackVector);
      const { written, skippedIds } = await add(mode, embeddings, {
        storeId: vectorStoreId,
        path: (index) => `embeddings[${index}].`,
        idempotencyKey: readIdempotencyKey(values),
        payer: values.get(principal),
        signal,
      });
      return create(BatchCreateEmbeddingsResponseSchema, {
        object: "embedding.batch",
        data: await mapInTurns(written, (row) =>
          toCreated(vectorStoreId, includeContent ? embeddings[row.place] : undefined, row),
        ),
        created: toSeconds(new Date()),
        skippedIds,
      });
    },
  };
}

function reading(database: Database): Pick<Methods, "getEmbedding" | "listEmbeddings"> {
  const { pool, tables } = database;
  return {
    async getEmbedding({ vectorStoreId, embeddingId }, { values }) {
      const condition = visibleTo(values.get(principal).readers);
      return toEmbedding(
        vectorStoreId,
        await requireEmbedding(database, vectorStoreId, embeddingId, condition),
      );
    },

    async listEmbeddings(request, { values }) {
      const page = readPage(request);
      const condition = visibleTo(values.get(principal).readers);
      const { after, before } = request;
      for (const [param, id] of Object.entries({ after, before })) {
        if (id !== undefined) checkStorable(id, param);
      }
      const store = await requireStore(pool, tables, request.vectorStoreId);
      const includeEmbedding = request.includeEmbedding ?? false;
      const rows = await readPlaced(pool, tables, store, (client, placed) =>
        listEmbeddings(client, placed, store.id, {
          ...page,
          after,
          before,
          includeEmbedding,
          bytesMax: limits.page_bytes_max,
          condition,
        }),
      );
      return create(
        ListEmbeddingsResponseSchema,
        toPage(page, rows, (row) => toEmbedding(store.id, row)),
      );
    },
  };
}

/** Reads an embedding that meets `condition`. Throws NOT_FOUND. */
async function requireEmbedding(
  { pool, tables }: Database,
  storeId: string,
  id: string,
  condition?: RowCondition,
): Promise<EmbeddingRow> {
  const store = await requireStore(pool, tables, storeId);
  if (!isStorable(id)) throw embeddingNotFound(storeId, id);
  const row = await readPlaced(pool, tables, store, (client, placed) =>
    findEmbedding(client, placed, storeId, id, condition),
  );
  if (row === undefined) throw embeddingNotFound(storeId, id);
  return row;
}

function updating(
  database: Database,
  embedder: Embedder,
  limiter: Limiter,
): Pick<Methods, "updateEmbedding"> {
  return {
    async updateEmbedding(request, { signal, values }) {
      const { vectorStoreId: storeId, embeddingId } = request;
      const payer = values.get(principal);
      const change = readEmbeddingChange(request);
      limiter.takeRows(payer, 1);
      const row = await changeEmbedding(database, embedder, change, {
        storeId,
        embeddingId,
        payer,
        signal,
      });
      return toEmbedding(storeId, { ...row, embedding: null });
    },
  };
}

function removal(
  database: Database,
  { textSearchLanguage }: Pick<QueryOptions, "textSearchLanguage">,
): Pick<Methods, "deleteEmbedding" | "batchDeleteEmbeddings" | "purgeEmbeddings"> {
  const { pool, tables } = database;
  const deletions = new GroupDeletion(database);
  return {
    async deleteEmbedding({ vectorStoreId, embeddingId }, { signal }) {
      // Postgres would reject an id with NUL as a parameter, with another error.
      if (!isStorable(embeddingId)) {
        await requireStore(pool, tables, vectorStoreId);
        throw embeddingNotFound(vectorStoreId, embeddingId);
      }
      if (!(await deletions.delete(vectorStoreId, embeddingId, signal)))
        throw embeddingNotFound(vectorStoreId, embeddingId);
      return create(DeleteEmbeddingResponseSchema, {
        id: embeddingId,
        object: "embedding.deleted",
        deleted: true,
      });
    },

    async batchDeleteEmbeddings({ vectorStoreId, embeddingIds }) {
      if (embeddingIds.length === 0) throw missingParameter("embedding_ids");
      checkLength("embedding_ids", embeddingIds.length, limits.batch_deletions_max);
      // No row has an id that Postgres cannot store.
      const ids = [...new Set(embeddingIds)].filter(isStorable);
      const removed = await remove(database, vectorStoreId, (client, placed) =>
        deleteEmbeddingsById(client, placed, vectorStoreId, ids),
      );
      return create(BatchDeleteEmbeddingsResponseSchema, {
        object: "embedding.batch_deleted",
        deletedIds: ids.filter((id) => removed.ids.has(id)),
      });
    },

    async purgeEmbeddings({ vectorStoreId, filters }) {
      if (filters === undefined) throw missingParameter("filters");
      const filter = readFilter(filters);
      const store = await requireStore(pool, tables, vectorStoreId);
      const removed = await remove(database, vectorStoreId, (client, placed) => {
        const params: unknown[] = [vectorStoreId];
        const words = wordsOf(placed, store, store.language ?? textSearchLanguage);
        const condition = compileFilter(filter, placed.metadata, params, words);
        return deleteEmbeddings(client, placed, vectorStoreId, condition, params.slice(1));
      });
      return create(PurgeEmbeddingsResponseSchema, {
        object: "embedding.purged",
        deletedCount: BigInt(removed.rows),
      });
    },
  };
}

/** Deletes rows and subtracts them from the store's counts, in one transaction. */
async function remove<T extends Removed>(
  { pool, tables }: Database,
  storeId: string,
  deleteRows: (client: Client, placed: Tables) => Promise<T>,
): Promise<T> {
  const write = async (client: Client, placed: Tables) => {
    const result = await deleteRows(client, placed);
    if (result.rows === 0) return { result };
    return { result, closing: countRemovalStatement(tables, storeId, result) };
  };
  return writeStoreFramed(pool, tables, storeId, write, { lockRow: true });
}

/** The reply to a creation, without the vector; without `input` also without text and metadata. */
function toCreated(
  storeId: string,
  input: Pick<EmbeddingInput, "content" | "metadata"> | undefined,
  row: Pick<Row, "id" | "createdAt">,
): Embedding {
  return create(EmbeddingSchema, {
    id: row.id,
    object: "embedding",
    vectorStoreId: storeId,
    createdAt: toSeconds(row.createdAt),
    ...(input !== undefined && { content: input.content, metadata: input.metadata ?? {} }),
  });
}
