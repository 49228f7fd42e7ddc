import type { ServiceImpl } from "@connectrpc/connect";
import type {
  ReplaceVectorStoreFileRequest,
  VectorStoreFileService,
} from "../../gen/pgquiver/v1/vector_store_files_pb.ts";
import type { Chunking } from "../documents/cutter.ts";
import {
  alreadyExists,
  conflict,
  failedPrecondition,
  fileNotFound,
  invalidArgument,
  vectorStoreNotFound,
} from "../errors.ts";
import { attachmentLock, lockShared } from "../postgres/advisory.ts";
import type { Client, Database } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { transaction } from "../postgres/transaction.ts";
import { countAttachment, type FileChange } from "../storage/counts.ts";
import { lockFiles } from "../storage/files.ts";
import { requireActiveStore } from "../storage/require.ts";
import { localId, projectOf } from "../store-id.ts";
import { checkFileId } from "./attach.ts";
import { readAttributes } from "./attributes.ts";
import { cancelLocked, insertReplacement, lockForReplacement } from "./replacements.ts";
import { answerFile, attachmentNotFound } from "./reply.ts";
import { readChunking } from "./request.ts";
import { findAttachment, type AttachmentRow, type Attributes } from "./rows.ts";

/** What a request asks to replace, and by what. */
interface Wanted {
  storeId: string;
  fileId: string;
  newFileId: string;
  /** Undefined: those of the replaced file. */
  attributes: Attributes | null | undefined;
  /** Undefined: as the replaced file. */
  chunking: Chunking | undefined;
}

/** Implements the replacement of files by new versions. `wake`: as for the service. */
export function replacementMethods(
  { pool, tables }: Database,
  wake: () => void,
): Pick<ServiceImpl<typeof VectorStoreFileService>, "replaceVectorStoreFile"> {
  return {
    async replaceVectorStoreFile(request, context) {
      const wanted = readWanted(request);
      await requireActiveStore(pool, tables, wanted.storeId);
      const row = await transaction(pool, (client) => replaceFile(client, tables, wanted));
      wake();
      return answerFile(row, context);
    },
  };
}

function readWanted(request: ReplaceVectorStoreFileRequest): Wanted {
  const { vectorStoreId: storeId, fileId, newFileId } = request;
  checkFileId(fileId, "file_id");
  checkFileId(newFileId, "new_file_id");
  if (newFileId === fileId)
    throw invalidArgument("new_file_id", "Invalid 'new_file_id': a file cannot replace itself.");
  const { chunkingStrategy } = request;
  return {
    storeId,
    fileId,
    newFileId,
    attributes: request.attributes === undefined ? undefined : readAttributes(request.attributes),
    chunking: chunkingStrategy === undefined ? undefined : readChunking(chunkingStrategy),
  };
}

async function replaceFile(client: Client, tables: Tables, wanted: Wanted): Promise<AttachmentRow> {
  const { storeId, fileId, newFileId } = wanted;
  const found = await lockFiles(client, tables, projectOf(storeId), [newFileId]);
  if (!found.has(newFileId)) throw fileNotFound(newFileId, "new_file_id");
  // As for attaching: a deletion of the store must see the row that is added.
  await lockShared(client, tables, attachmentLock(storeId));
  const { replaced, present, rivals } = await lockForReplacement(client, tables, storeId, wanted);
  const isPresent = present?.status === "in_progress" || present?.status === "completed";
  const isRepeated = present?.replaced_file_id === fileId;
  if (isRepeated && (present.status === "in_progress" || (isPresent && replaced === undefined)))
    return present;
  if (replaced === undefined) throw attachmentNotFound(storeId, fileId);
  if (isPresent) throw attachedAlready(storeId, newFileId);
  if (replaced.status !== "completed") {
    const message = `File '${fileId}' is ${replaced.status}, and only a completed file can be replaced.`;
    throw failedPrecondition("FILE_NOT_COMPLETED", message, "file_id");
  }
  const isInserted = await insertReplacement(client, tables, storeId, {
    fileId: newFileId,
    attributes: wanted.attributes === undefined ? replaced.attributes : wanted.attributes,
    chunking: wanted.chunking ?? replaced.chunking,
    replaced,
    inheritsAttributes: wanted.attributes === undefined,
  });
  // Another call has attached it since its row was looked for.
  if (!isInserted) throw attachedAlready(storeId, newFileId);
  await cancelLocked(client, tables, rivals);
  const change: Required<Pick<FileChange, "in_progress" | "failed" | "cancelled">> = {
    in_progress: 1 - rivals.length,
    failed: present?.status === "failed" ? -1 : 0,
    cancelled: rivals.length - (present?.status === "cancelled" ? 1 : 0),
  };
  if (!(await countAttachment(client, tables, storeId, change))) {
    await requireActiveStore(client, tables, storeId);
    throw vectorStoreNotFound(storeId);
  }
  const row = await findAttachment(client, tables, storeId, newFileId);
  if (row === undefined) throw conflict();
  return row;
}

function attachedAlready(storeId: string, fileId: string) {
  const message = `File '${fileId}' is attached to vector store '${localId(storeId)}' already, and not in place of this file.`;
  return alreadyExists(message, "new_file_id");
}
