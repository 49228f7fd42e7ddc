import type { Chunking } from "../documents/cutter.ts";
import { create, type JsonObject, type MessageInitShape } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import {
  AppliedChunkingStrategyType,
  ListVectorStoreFilesResponseSchema,
  VectorStoreFileErrorCode,
  VectorStoreFileSchema,
  VectorStoreFileStage,
  VectorStoreFileStatus,
  type ListVectorStoreFilesRequest,
  type ListVectorStoreFilesResponse,
  type AppliedChunkingStrategySchema,
  type VectorStoreFile,
  type VectorStoreFileProgressSchema,
} from "../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { readPage, readPosition, toPage } from "../api/page.ts";
import { toSeconds } from "../api/time.ts";
import { invalidArgument, notFound } from "../errors.ts";
import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { findAttachmentPosition, listAttachments, type AttachmentPage } from "./list.ts";
import type { FileProgress, Stage } from "./progress.ts";
import type { AttachmentErrorCode, AttachmentRow, AttachmentStatus } from "./rows.ts";
import { localId } from "../store-id.ts";

/** Answers a list request with a page of a store's files; with `fileIds` only of these, with `readers` only of theirs. */
export async function listStoreFiles(
  client: Queryable,
  tables: Tables,
  storeId: string,
  request: Pick<ListVectorStoreFilesRequest, "limit" | "order" | "after" | "before" | "filter">,
  { fileIds, readers }: Pick<AttachmentPage, "fileIds" | "readers">,
): Promise<ListVectorStoreFilesResponse> {
  const page = readPage(request);
  const status = readFilter(request.filter);
  const find = async (fileId: string) => findAttachmentPosition(client, tables, storeId, fileId, readers);
  const place = " in the vector store";
  const after = await readPosition(request.after, "after", find, "file", place);
  const before = await readPosition(request.before, "before", find, "file", place);
  const rows = await listAttachments(client, tables, storeId, {
    ...page,
    after,
    before,
    status,
    fileIds,
    readers,
  });
  return create(ListVectorStoreFilesResponseSchema, toPage(page, rows, toStoreFile));
}

/** NOT_FOUND for a file that is not attached, with OpenAI's wording, which clients match on. */
export function attachmentNotFound(storeId: string, fileId: string) {
  return notFound(`No file found with id '${fileId}' in vector store '${localId(storeId)}'.`, "file_id");
}

const STATUSES: Record<AttachmentStatus, VectorStoreFileStatus> = {
  in_progress: VectorStoreFileStatus.IN_PROGRESS,
  completed: VectorStoreFileStatus.COMPLETED,
  cancelled: VectorStoreFileStatus.CANCELLED,
  failed: VectorStoreFileStatus.FAILED,
};

const ERROR_CODES: Record<AttachmentErrorCode, VectorStoreFileErrorCode> = {
  server_error: VectorStoreFileErrorCode.SERVER_ERROR,
  unsupported_file: VectorStoreFileErrorCode.UNSUPPORTED_FILE,
  invalid_file: VectorStoreFileErrorCode.INVALID_FILE,
};

function readFilter(filter: VectorStoreFileStatus | undefined): AttachmentStatus | undefined {
  if (filter === undefined || filter === VectorStoreFileStatus.UNSPECIFIED) return undefined;
  const known = Object.entries(STATUSES).find(([, status]) => status === filter);
  if (known !== undefined) return known[0] as AttachmentStatus;
  const supported = Object.keys(STATUSES).map((status) => `'${status}'`);
  throw invalidArgument(
    "filter",
    `Invalid value: '${filter}'. Supported values are: ${supported.join(", ")}.`,
  );
}

/** Bounds of the polling interval proposed to clients. */
const POLL_MIN_MS = 100;
const POLL_MAX_MS = 1_000;

/**
 * Sets the response header `openai-poll-after-ms`, which the OpenAI SDKs use as their polling interval: a
 * fifth of the time since `startedAt`, from 100 ms to 1 s.
 */
export function suggestPoll(context: HandlerContext, startedAt: Date): void {
  const ageMs = Date.now() - startedAt.getTime();
  const delayMs = Math.round(Math.min(Math.max(ageMs / 5, POLL_MIN_MS), POLL_MAX_MS));
  context.responseHeader.set("openai-poll-after-ms", String(delayMs));
}

/** Answers with a file, and while it is in progress with when to ask again. */
export function answerFile(row: AttachmentRow, context: HandlerContext): VectorStoreFile {
  if (row.status === "in_progress") suggestPoll(context, row.created_at);
  return create(VectorStoreFileSchema, toStoreFile(row));
}

/** Converts an attachment row to the API's message. */
export function toStoreFile(
  row: AttachmentRow,
): MessageInitShape<typeof VectorStoreFileSchema> & { id: string } {
  return {
    id: row.file_id,
    object: "vector_store.file",
    usageBytes: BigInt(row.usage_bytes),
    createdAt: toSeconds(row.created_at),
    vectorStoreId: row.vector_store_id,
    status: STATUSES[row.status],
    ...(row.error_code !== null && {
      lastError: { code: ERROR_CODES[row.error_code], message: row.error_message ?? "" },
    }),
    chunkingStrategy: toAppliedChunking(row.chunking),
    ...(row.status === "in_progress" && { progress: toProgress(row.progress) }),
    ...(row.attributes !== null && { attributes: row.attributes as JsonObject }),
    ...(row.replaced_file_id !== null && { replacesFileId: row.replaced_file_id }),
  };
}

/**
 * Converts a chunking strategy to the API's message. OpenAI's only type for chunks in characters is "other".
 */
export function toAppliedChunking({
  unit,
  sizeMax,
  overlap,
}: Chunking): MessageInitShape<typeof AppliedChunkingStrategySchema> {
  if (unit === "characters") return { type: AppliedChunkingStrategyType.OTHER };
  return {
    type: AppliedChunkingStrategyType.STATIC,
    static: { maxChunkSizeTokens: sizeMax, chunkOverlapTokens: overlap },
  };
}

const STAGES: Record<Stage, VectorStoreFileStage> = {
  reading: VectorStoreFileStage.READING,
  embedding: VectorStoreFileStage.EMBEDDING,
  storing: VectorStoreFileStage.STORING,
};

/** Converts the progress of a file that is being processed to the API's message; null: no attempt is under way. */
function toProgress(progress: FileProgress | null): MessageInitShape<typeof VectorStoreFileProgressSchema> {
  if (progress === null) return { stage: VectorStoreFileStage.WAITING };
  const { stage, bytesRead, bytesTotal, pages, chunksRead, chunksEmbedded, chunksReused = 0 } = progress;
  return {
    stage: STAGES[stage],
    bytesRead: BigInt(bytesRead),
    bytesTotal: BigInt(bytesTotal),
    ...(pages !== null && { pagesRead: pages.read, pagesTotal: pages.total }),
    chunksRead: BigInt(chunksRead),
    chunksEmbedded: BigInt(chunksEmbedded),
    chunksReused: BigInt(chunksReused),
  };
}
