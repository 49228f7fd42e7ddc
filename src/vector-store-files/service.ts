import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  DeleteVectorStoreFileResponseSchema,
  GetVectorStoreFileContentResponseSchema,
  VectorStoreFileSchema,
  type VectorStoreFileService,
} from "../../gen/pgquiver/v1/vector_store_files_pb.ts";
import type { Watches } from "../api/watching/watches.ts";
import { principal } from "../api/principal.ts";
import { conflict, missingParameter, tooLarge, vectorStoreNotFound } from "../errors.ts";
import type { Readers } from "../filters/readers.ts";
import { limits } from "../limits.ts";
import type { Client, Database, Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { transaction } from "../postgres/transaction.ts";
import { countTransition } from "../storage/counts.ts";
import { openForWriting, readPlaced } from "../storage/placement.ts";
import { requireActiveStore, requireStore } from "../storage/require.ts";
import { attachFiles, checkFileId, CHUNKS_TIMEOUT_MS, removeAttachment } from "./attach.ts";
import { readAttributes } from "./attributes.ts";
import { fileBatchMethods, type BatchParts } from "./batch-service.ts";
import { readChunking } from "./request.ts";
import { readChunks, updateChunks } from "./chunks.ts";
import { replacementMethods } from "./replacement-service.ts";
import { toChunkPlace } from "../embeddings/reply.ts";
import { answerFile, attachmentNotFound, listStoreFiles, toStoreFile } from "./reply.ts";
import { findAttachment, lockAttachment, updateAttributes, type AttachmentRow } from "./rows.ts";

type Methods = ServiceImpl<typeof VectorStoreFileService>;

/** Implements VectorStoreFileService. */
export function vectorStoreFileService(database: Database, parts: BatchParts): Methods {
  const { wake, watches } = parts;
  return {
    ...creation(database, wake),
    ...replacementMethods(database, wake),
    ...reading(database),
    ...change(database, wake),
    ...watching(database, watches),
    ...fileBatchMethods(database, parts),
  };
}

function creation({ pool, tables }: Database, wake: () => void): Pick<Methods, "createVectorStoreFile"> {
  return {
    async createVectorStoreFile(request, context) {
      const { vectorStoreId: storeId, fileId } = request;
      checkFileId(fileId, "file_id");
      const attributes = readAttributes(request.attributes);
      const chunking = readChunking(request.chunkingStrategy);
      await requireActiveStore(pool, tables, storeId);
      const file = { fileId, attributes, chunking, param: "file_id" };
      const attach = () =>
        transaction(pool, async (client) => {
          if (!(await attachFiles(client, tables, storeId, [file]))) {
            await requireActiveStore(client, tables, storeId);
            throw vectorStoreNotFound(storeId);
          }
          return findAttachment(client, tables, storeId, fileId);
        });
      // A file that was already attached is not locked, so a concurrent removal may delete the attachment
      // before it is read: then attach the file again.
      const row = (await attach()) ?? (await attach());
      if (row === undefined) throw conflict();
      wake();
      return answerFile(row, context);
    },
  };
}

function reading({
  pool,
  tables,
}: Database): Pick<Methods, "getVectorStoreFile" | "listVectorStoreFiles" | "getVectorStoreFileContent"> {
  return {
    async getVectorStoreFile({ vectorStoreId, fileId }, context) {
      const { readers } = context.values.get(principal);
      return answerFile(await requireAttachment(pool, tables, vectorStoreId, fileId, readers), context);
    },

    async listVectorStoreFiles(request, { values }) {
      const { readers } = values.get(principal);
      const { id } = await requireStore(pool, tables, request.vectorStoreId);
      return listStoreFiles(pool, tables, id, request, { readers });
    },

    async getVectorStoreFileContent({ vectorStoreId, fileId }, { values }) {
      const { readers } = values.get(principal);
      const store = await requireStore(pool, tables, vectorStoreId);
      const file = await requireAttachment(pool, tables, vectorStoreId, fileId, readers);
      if (Number(file.usage_bytes) > limits.file_content_bytes_max) {
        throw tooLarge(
          `The text of file '${fileId}' has ${file.usage_bytes} bytes, more than the ${limits.file_content_bytes_max} of one reply: download the file, or list the store's embeddings.`,
        );
      }
      const chunks = await readPlaced(pool, tables, store, (client, placed) =>
        readChunks(
          client,
          placed,
          { storeId: vectorStoreId, fileId, chunkCount: file.chunk_count },
          limits.file_content_bytes_max - Number(file.usage_bytes),
        ),
      );
      return create(GetVectorStoreFileContentResponseSchema, {
        object: "vector_store.file_content.page",
        data: chunks.map(({ content: text }) => ({ type: "text", text })),
        hasMore: false,
        places: chunks.some(({ place }) => place !== null)
          ? chunks.map(({ place }) => (place === null ? {} : toChunkPlace(place)))
          : [],
      });
    },
  };
}

function watching({ pool, tables }: Database, watches: Watches): Pick<Methods, "watchVectorStoreFile"> {
  return {
    async *watchVectorStoreFile({ vectorStoreId, fileId }, context) {
      const { readers } = context.values.get(principal);
      const read = async () => {
        const row = await requireAttachment(pool, tables, vectorStoreId, fileId, readers);
        const isFinal = row.status !== "in_progress";
        return { state: create(VectorStoreFileSchema, toStoreFile(row)), isFinal };
      };
      const key = JSON.stringify([vectorStoreId, fileId, readers && [...readers].toSorted()]);
      yield* watches.watch({ desc: VectorStoreFileSchema, key, read }, context);
    },
  };
}

function change(
  { pool, tables }: Database,
  wake: () => void,
): Pick<Methods, "updateVectorStoreFile" | "deleteVectorStoreFile"> {
  return {
    async updateVectorStoreFile(request, context) {
      const { vectorStoreId: storeId, fileId } = request;
      if (request.attributes === undefined && !request.updateMask?.paths.includes("attributes"))
        throw missingParameter("attributes");
      const attributes = readAttributes(request.attributes);
      await requireActiveStore(pool, tables, storeId);
      checkFileId(fileId, "file_id");
      const row = await transaction(
        pool,
        async (client) => {
          await client.query(`set local statement_timeout = ${CHUNKS_TIMEOUT_MS}`);
          const placed = await openForWriting(client, tables, storeId);
          const file = await lockAttachment(client, tables, storeId, fileId);
          if (placed === undefined || file === undefined) throw attachmentNotFound(storeId, fileId);
          await updateAttributes(client, tables, storeId, fileId, attributes);
          if (file.chunk_count > 0) {
            // Locks the store's row before its embeddings: the common lock order, else a concurrent
            // PurgeEmbeddings could deadlock with this update.
            await countTransition(client, tables, storeId, {});
            await updateChunks(client, placed, { storeId, fileId, attributes }, file.chunk_count);
          }
          return { ...file, attributes };
        },
        context.signal,
      );
      return answerFile(row, context);
    },

    async deleteVectorStoreFile({ vectorStoreId, fileId }, { signal }) {
      await requireStore(pool, tables, vectorStoreId);
      checkFileId(fileId, "file_id");
      const remove = async (client: Client) => {
        if (!(await removeAttachment(client, tables, vectorStoreId, fileId)))
          throw attachmentNotFound(vectorStoreId, fileId);
      };
      await transaction(pool, remove, signal);
      wake();
      return create(DeleteVectorStoreFileResponseSchema, {
        id: fileId,
        object: "vector_store.file.deleted",
        deleted: true,
      });
    },
  };
}

async function requireAttachment(
  client: Queryable,
  tables: Tables,
  storeId: string,
  fileId: string,
  readers: Readers,
): Promise<AttachmentRow> {
  await requireStore(client, tables, storeId);
  checkFileId(fileId, "file_id");
  const row = await findAttachment(client, tables, storeId, fileId, readers);
  if (row === undefined) throw attachmentNotFound(storeId, fileId);
  return row;
}
