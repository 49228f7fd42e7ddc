import { setTimeout as delay } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  DeleteFileResponseSchema,
  FileSchema,
  FileStatus,
  GetFileContentResponseSchema,
  ListFilesResponseSchema,
  type File,
  type FileService,
  type UploadFileRequest,
} from "../../gen/pgquiver/v1/files_pb.ts";
import { ByteBudget } from "../api/byte-budget.ts";
import { readRange } from "../api/byte-range.ts";
import { makeIdentifier } from "../api/identifier.ts";
import { Messages } from "../api/message-reader.ts";
import { positionOfIdentifier, readPage, readPosition, toPage } from "../api/page.ts";
import { toSeconds } from "../api/time.ts";
import { fileNotFound, invalidArgument, missingParameter, tooLarge } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Database, Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { isStorable } from "../postgres/text.ts";
import { transaction } from "../postgres/transaction.ts";
import { detachFile } from "../vector-store-files/attach.ts";
import type { Buckets } from "./buckets.ts";
import { openFile } from "./content.ts";
import { readDescription } from "./request.ts";
import { removeBytes } from "./leftovers.ts";
import { deleteFile, findExpiredFiles, findFile, findPosition, listFiles, type FileRow } from "./rows.ts";
import { storeFile, type FileDescription } from "./upload.ts";

/** What bounds uploads in this process. */
export interface FileOptions {
  /** Bytes of the largest file. */
  bytesMax: number;
  /** Milliseconds a client may be silent during an upload. */
  idleMs: number;
}

/** What the uploads under way may have in memory together: 32 of them, or 5 to a bucket. */
const UPLOADS_BYTES = 64 * 1024 * 1024;
/** The window HTTP/2 may fill for an upload, and its parts: one being filled, one being written. */
const UPLOAD_BYTES = 2 * 1024 * 1024;
const BUCKET_UPLOAD_BYTES = 12 * 1024 * 1024;
/** How long an upload waits until others have ended. */
const UPLOAD_WAIT_MS = 10_000;
const UPLOADS_FULL = "The service takes no more uploads at the moment.";

/**
 * How long after the end of an upload of unknown length its cancellation is waited for. Node's clients send the one
 * first: of 150 cancelled uploads 147 were taken for complete without a wait, 2 with 20 ms, on a busy machine.
 */
const END_DOUBT_MS = 50;

/** Bytes in one message of a file's content. */
const MESSAGE_BYTES = 64 * 1024;

/** Uploads end by themselves within the grace of a shutdown, or are cut. */
const NEVER = new AbortController().signal;

/** Keeps files and gives them out again. */
export function fileService(
  database: Database,
  buckets: Buckets,
  options: FileOptions,
): ServiceImpl<typeof FileService> {
  const { pool, tables } = database;
  const uploads = new ByteBudget(UPLOADS_BYTES);
  return {
    async uploadFile(requests, { signal }) {
      const made = makeIdentifier("file");
      const needed = buckets.placeObject(made.id) === null ? UPLOAD_BYTES : BUCKET_UPLOAD_BYTES;
      using _ = await uploads.reserveWithin(needed, UPLOAD_WAIT_MS, UPLOADS_FULL, signal);
      const messages = new Messages(requests, { idleMs: options.idleMs, draining: NEVER }, signal);
      const upload = { ...made, ...readUpload(messages, options.bytesMax, signal) };
      const file = await storeFile(database, buckets, upload, signal);
      // Nobody will learn the id.
      if (signal.aborted) await removeFile(database, buckets, file.id);
      signal.throwIfAborted();
      return toFile(file);
    },

    async getFile({ fileId }) {
      return toFile(await requireFile(pool, tables, fileId));
    },

    async listFiles(request) {
      const page = readPage(request, { max: limits.files_page_max, fallback: limits.files_page_max });
      const find = async (id: string) => (await findPosition(pool, tables, id)) ?? positionOfIdentifier(id);
      const after = await readPosition(request.after, "after", find, "file");
      const purpose = isStorable(request.purpose ?? "") ? request.purpose : "";
      const rows = await listFiles(pool, tables, { ...page, after, purpose });
      return create(ListFilesResponseSchema, toPage(page, rows, toFile));
    },

    async deleteFile({ fileId: id }) {
      if (!(await removeFile(database, buckets, id))) throw fileNotFound(id);
      return create(DeleteFileResponseSchema, { id, object: "file", deleted: true });
    },

    async *getFileContent(request, { signal }) {
      const file = await requireFile(pool, tables, request.fileId);
      yield create(GetFileContentResponseSchema, { file: toFile(file) });
      const range = readRange(Number(file.bytes), request);
      for await (const piece of openFile(database, buckets, file, range, signal)) {
        for (let start = 0; start < piece.length; start += MESSAGE_BYTES)
          yield create(GetFileContentResponseSchema, { data: piece.subarray(start, start + MESSAGE_BYTES) });
      }
    },
  };
}

/** How long the bytes of files are removed at once when they expire. */
const EXPIRED_BYTES_MS = 60_000;

/**
 * Deletes the files that have expired, the oldest first, and removes them from every store; looks for `rowsMax` at a
 * time. Those that cannot be removed are passed over, unless they are as many; then the first error is thrown. Bytes
 * that are in a bucket which is away are left to `removeLeftovers`.
 */
export async function deleteExpiredFiles(
  database: Database,
  buckets: Buckets,
  rowsMax: number,
  signal: AbortSignal,
): Promise<void> {
  const errors = new Map<string, unknown>();
  const removal = { expired: true, signal: AbortSignal.any([signal, AbortSignal.timeout(EXPIRED_BYTES_MS)]) };
  for (let ids: string[] = []; errors.size < rowsMax;) {
    ids = await findExpiredFiles(database.pool, database.tables, rowsMax, [...errors.keys()]);
    if (ids.length === 0) break;
    for (const id of ids) {
      if (signal.aborted) return;
      await removeFile(database, buckets, id, removal).catch((error: unknown) => errors.set(id, error));
    }
  }
  for (const error of errors.values()) throw error;
}

/** Deletes a file and removes it from every store; false when there is none. Only an expired one with `expired`. */
async function removeFile(
  database: Database,
  buckets: Buckets,
  id: string,
  options?: { expired: boolean; signal: AbortSignal },
): Promise<boolean> {
  const { pool, tables } = database;
  if (!isStorable(id)) return false;
  const file = await transaction(pool, async (client) => {
    const deleted = await deleteFile(client, tables, id, options);
    if (deleted !== undefined) await detachFile(client, tables, id);
    return deleted;
  });
  if (file === undefined) return false;
  // The file is gone for everybody. Where its bytes cannot be removed now, `removeLeftovers` does it later.
  await removeBytes(database, buckets, file, options?.signal).catch(() => {});
  return true;
}

async function requireFile(client: Queryable, tables: Tables, id: string): Promise<FileRow> {
  const file = isStorable(id) ? await findFile(client, tables, id) : undefined;
  if (file === undefined) throw fileNotFound(id);
  return file;
}

/** Takes the messages of an upload apart: the bytes, and what the file is. */
function readUpload(messages: Messages<UploadFileRequest>, bytesMax: number, signal: AbortSignal) {
  let description: FileDescription | undefined;
  let announced: bigint | undefined;
  let bytes = 0;
  async function* content(): AsyncGenerator<Uint8Array> {
    for (let next = await messages.next(); next.kind === "message"; next = await messages.next()) {
      const { part } = next.message;
      if (part.case === "metadata") {
        if (description !== undefined)
          throw invalidArgument("metadata", "Invalid 'metadata': given more than once.");
        description = readDescription(part.value);
        announced = part.value.bytes;
      } else if (part.case === "data") {
        bytes += part.value.length;
        if (bytes > bytesMax)
          throw tooLarge(`The file is too large: expected at most ${bytesMax} bytes.`, "file");
        yield part.value;
      } else throw missingParameter("data");
    }
    if (announced === undefined) await delay(END_DOUBT_MS);
    signal.throwIfAborted();
  }
  const describe = (): FileDescription => {
    if (description === undefined) throw missingParameter("metadata");
    if (announced !== undefined && announced !== BigInt(bytes)) {
      const message = `Invalid 'bytes': the file was announced with ${announced} bytes, but ${bytes} came.`;
      throw invalidArgument("bytes", message);
    }
    return description;
  };
  return { content: content(), describe };
}

function toFile(row: FileRow): File {
  return create(FileSchema, {
    id: row.id,
    object: "file",
    bytes: BigInt(row.bytes),
    createdAt: toSeconds(row.created_at),
    ...(row.expires_at !== null && { expiresAt: toSeconds(row.expires_at) }),
    filename: row.filename,
    purpose: row.purpose,
    status: FileStatus.PROCESSED,
  });
}
