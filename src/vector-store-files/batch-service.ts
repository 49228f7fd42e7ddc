import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  VectorStoreFileBatchSchema,
  VectorStoreFileStatus,
  type CreateVectorStoreFileBatchRequest,
  type VectorStoreFileBatch,
  type VectorStoreFileService,
} from "../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { checkLength } from "../api/checks.ts";
import { makeIdentifier } from "../api/identifier.ts";
import { Pace, secondsLeft } from "../api/watching/pace.ts";
import type { Watches } from "../api/watching/watches.ts";
import { toSeconds } from "../api/time.ts";
import { invalidArgument, missingParameter, notFound, vectorStoreNotFound } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Database, Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { transaction } from "../postgres/transaction.ts";
import { countTransition } from "../storage/counts.ts";
import { requireActiveStore, requireStore } from "../storage/require.ts";
import { attachFiles, checkFileId, checkPrefix, type Attachable } from "./attach.ts";
import { readAttributes } from "./attributes.ts";
import type { BatchLog } from "./batch-log.ts";
import { cancelBatch, countFiles, findBatch, insertBatch, type BatchRow } from "./batches.ts";
import { readChunking } from "./request.ts";
import { listStoreFiles, suggestPoll } from "./reply.ts";
import type { AttachmentStatus } from "./rows.ts";
import { localId } from "../store-id.ts";

type BatchMethods = Pick<
  ServiceImpl<typeof VectorStoreFileService>,
  | "createVectorStoreFileBatch"
  | "getVectorStoreFileBatch"
  | "watchVectorStoreFileBatch"
  | "cancelVectorStoreFileBatch"
  | "listVectorStoreFileBatchFiles"
>;

/** What the RPCs of file batches need beside the database. */
export interface BatchParts {
  /**
   * Makes this process's pipeline look for files to process, or to abandon, without waiting for its next tick.
   */
  wake: () => void;
  watches: Watches;
  /** Waits for the ends of batches; undefined: nobody does. */
  batches?: Pick<BatchLog, "note">;
}

/** The RPCs of file batches. */
export function fileBatchMethods(
  { pool, tables }: Database,
  { wake, watches, batches }: BatchParts,
): BatchMethods {
  return {
    async createVectorStoreFileBatch(request, context) {
      const storeId = request.vectorStoreId;
      const files = readFiles(request);
      await requireActiveStore(pool, tables, storeId);
      const fileIds = [...new Set(files.map((file) => file.fileId))];
      const [batch, counts] = await transaction(
        pool,
        async (client) => {
          if (!(await attachFiles(client, tables, storeId, files))) {
            await requireActiveStore(client, tables, storeId);
            throw vectorStoreNotFound(storeId);
          }
          const row = await insertBatch(client, tables, { ...makeIdentifier("vsfb"), storeId, fileIds });
          return [row, await countFiles(client, tables, row)] as const;
        },
        context.signal,
      );
      wake();
      batches?.note(batch);
      if (counts.in_progress > 0) suggestPoll(context, batch.created_at);
      return toBatch(batch, counts);
    },

    async getVectorStoreFileBatch({ vectorStoreId, batchId }, context) {
      const batch = await requireBatch(pool, tables, vectorStoreId, batchId);
      const counts = await countFiles(pool, tables, batch);
      if (counts.in_progress > 0) suggestPoll(context, batch.created_at);
      return toBatch(batch, counts);
    },

    watchVectorStoreFileBatch: watchBatch(pool, tables, watches),

    async cancelVectorStoreFileBatch({ vectorStoreId, batchId }, { signal }) {
      const batch = await requireBatch(pool, tables, vectorStoreId, batchId);
      const reply = await transaction(
        pool,
        async (client) => {
          const stopped = await cancelBatch(client, tables, batch);
          if (stopped > 0)
            await countTransition(client, tables, batch.vector_store_id, {
              in_progress: -stopped,
              cancelled: stopped,
            });
          const counts = await countFiles(client, tables, batch);
          return toBatch({ ...batch, cancelled: batch.cancelled || stopped > 0 }, counts);
        },
        signal,
      );
      wake();
      return reply;
    },

    async listVectorStoreFileBatchFiles(request) {
      const batch = await requireBatch(pool, tables, request.vectorStoreId, request.batchId);
      return listStoreFiles(pool, tables, batch.vector_store_id, request, { fileIds: batch.file_ids });
    },
  };
}

function watchBatch(
  pool: Queryable,
  tables: Tables,
  watches: Watches,
): BatchMethods["watchVectorStoreFileBatch"] {
  return async function* ({ vectorStoreId, batchId }, context) {
    const pace = new Pace();
    const read = async () => {
      const batch = await requireBatch(pool, tables, vectorStoreId, batchId);
      const counts = await countFiles(pool, tables, batch);
      const state = toBatch(batch, counts);
      const perSecond = pace.look(counts.completed + counts.failed + counts.cancelled);
      const left = secondsLeft(counts.in_progress, perSecond);
      if (perSecond !== undefined) state.filesPerSecond = perSecond;
      if (left !== undefined) state.secondsLeft = left;
      return { state, isFinal: counts.in_progress === 0 };
    };
    const key = `${vectorStoreId} ${batchId}`;
    yield* watches.watch({ desc: VectorStoreFileBatchSchema, key, read }, context);
  };
}

function readFiles(request: CreateVectorStoreFileBatchRequest): Attachable[] {
  const { fileIds, files } = request;
  if (fileIds.length > 0 && files.length > 0)
    throw invalidArgument("files", "Send either 'file_ids' or 'files', not both.");
  if (fileIds.length === 0 && files.length === 0) throw missingParameter("file_ids");
  const param = fileIds.length > 0 ? "file_ids" : "files";
  const count = Math.max(fileIds.length, files.length);
  checkLength(param, count, limits.batch_files_max);
  if (files.length > 0) {
    return files.map(({ fileId, attributes, chunkingStrategy }, index) => {
      const path = `files[${index}]`;
      checkFileId(fileId, `${path}.file_id`);
      return {
        fileId,
        attributes: readAttributes(attributes, `${path}.attributes`),
        chunking: readChunking(chunkingStrategy, `${path}.chunking_strategy`),
        param: `${path}.file_id`,
      };
    });
  }
  const attributes = readAttributes(request.attributes);
  const chunking = readChunking(request.chunkingStrategy);
  return fileIds.map((fileId, index) => {
    const path = `file_ids[${index}]`;
    checkFileId(fileId, path);
    return { fileId, attributes, chunking, param: path };
  });
}

async function requireBatch(
  client: Queryable,
  tables: Tables,
  storeId: string,
  batchId: string,
): Promise<BatchRow> {
  await requireStore(client, tables, storeId);
  checkPrefix(batchId, "vsfb_", "batch_id");
  const batch = await findBatch(client, tables, storeId, batchId);
  if (batch !== undefined) return batch;
  throw notFound(
    `No file batch found with id '${batchId}' in vector store '${localId(storeId)}'.`,
    "batch_id",
  );
}

/** A cancelled batch stays cancelled, even when one of its files is attached again and processed. */
function toStatus(batch: BatchRow, counts: Record<AttachmentStatus, number>): VectorStoreFileStatus {
  if (batch.cancelled) return VectorStoreFileStatus.CANCELLED;
  return counts.in_progress > 0 ? VectorStoreFileStatus.IN_PROGRESS : VectorStoreFileStatus.COMPLETED;
}

function toBatch(batch: BatchRow, counts: Record<AttachmentStatus, number>): VectorStoreFileBatch {
  const { in_progress: inProgress, completed, failed, cancelled } = counts;
  return create(VectorStoreFileBatchSchema, {
    id: batch.id,
    object: "vector_store.file_batch",
    createdAt: toSeconds(batch.created_at),
    vectorStoreId: batch.vector_store_id,
    status: toStatus(batch, counts),
    fileCounts: {
      inProgress: BigInt(inProgress),
      completed: BigInt(completed),
      failed: BigInt(failed),
      cancelled: BigInt(cancelled),
      total: BigInt(inProgress + completed + failed + cancelled),
    },
  });
}
