import { setTimeout as delay } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  DeleteFileResponseSchema,
  GetFileContentResponseSchema,
  ListFilesResponseSchema,
  type FileService,
  type UploadFileRequest,
} from "../../gen/pgquiver/v1/files_pb.ts";
import { ByteBudget } from "../api/byte-budget.ts";
import { readRange } from "../api/byte-range.ts";
import { checkRange } from "../api/checks.ts";
import { makeIdentifier } from "../api/identifier.ts";
import { Messages } from "../api/message-reader.ts";
import { positionOfIdentifier, readPage, readPosition, toPage } from "../api/page.ts";
import { principal, type Principal } from "../api/principal.ts";
import { fileNotFound, invalidArgument, missingParameter, tooLarge } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Database, Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { isStorable } from "../postgres/text.ts";
import { transaction } from "../postgres/transaction.ts";
import { openRoom, type CheckRoom } from "../storage/file-quotas.ts";
import { detachFile } from "../vector-store-files/attach.ts";
import type { Buckets } from "./buckets.ts";
import { openFile } from "./content.ts";
import { removeBytes } from "./leftovers.ts";
import { toFile } from "./reply.ts";
import { readDescription } from "./request.ts";
import {
  deleteFile,
  findExpiredFiles,
  findFile,
  findFilePosition,
  listFiles,
  type FileDeletion,
  type FileRow,
} from "./rows.ts";
import { storeFile, type FileDescription } from "./upload.ts";
import { uploadMethods } from "./upload-service.ts";

/** Limits of uploads in this process. */
export interface FileOptions {
  /** Maximum size of a file, in bytes. */
  bytesMax: number;
  /** Idle timeout of an upload: milliseconds without a message from the client. */
  idleMs: number;
}

/** Memory budget of all concurrent uploads: enough for 32 into the database, or 5 into a bucket. */
const UPLOADS_BYTES = 64 * 1024 * 1024;
/**
 * Memory reserved per upload: the HTTP/2 flow-control window and two parts, one being filled, one being
 * written.
 */
const UPLOAD_BYTES = 2 * 1024 * 1024;
const BUCKET_UPLOAD_BYTES = 12 * 1024 * 1024;
/** How long an upload waits for the memory budget before RATE_LIMIT_EXCEEDED. */
const UPLOAD_WAIT_MS = 10_000;
const UPLOADS_FULL = "Too many uploads at the moment: try again later.";

/**
 * How long to wait for a RST_STREAM after the END_STREAM of an upload whose length was not announced: Node's
 * HTTP/2 clients send END_STREAM before the reset when a call is cancelled. On a busy machine, 147 of 150
 * cancelled uploads were taken for complete without a wait, and 2 with a wait of 20 ms.
 */
const END_DOUBT_MS = 50;

/** Size of a file that is uploaded in parts, as a multiple of one that is uploaded at once: 8 GiB by default, as OpenAI's. */
const PARTS_BYTES_FACTOR = 16;

/** Bytes of file content per response message. */
const MESSAGE_BYTES = 64 * 1024;

/**
 * Uploads do not react to draining: an upload either ends within the shutdown's grace period or is cut off.
 */
const NEVER = new AbortController().signal;

/** Implements FileService: upload, metadata, content and deletion of files. */
export function fileService(
  database: Database,
  buckets: Buckets,
  options: FileOptions,
): ServiceImpl<typeof FileService> {
  const { pool, tables } = database;
  const uploads = new ByteBudget(UPLOADS_BYTES);
  const reserve = async (id: string, caller: Principal["caller"], signal: AbortSignal) => {
    const needed = buckets.placeObject(id) === null ? UPLOAD_BYTES : BUCKET_UPLOAD_BYTES;
    return uploads.shareOf(caller).reserveWithin(needed, UPLOAD_WAIT_MS, UPLOADS_FULL, signal);
  };
  const bytesMax = options.bytesMax * PARTS_BYTES_FACTOR;
  return {
    ...uploadMethods(database, buckets, { ...options, bytesMax, endDoubtMs: END_DOUBT_MS, reserve }),
    async uploadFile(requests, { signal, values }) {
      const made = makeIdentifier("file");
      const { caller, project } = values.get(principal);
      const checkRoom = await openRoom(pool, tables, project);
      using _ = await reserve(made.id, caller, signal);
      const messages = new Messages(requests, { idleMs: options.idleMs, draining: NEVER }, signal);
      const upload = { ...made, project, ...readUpload(messages, options.bytesMax, checkRoom, signal) };
      const file = await storeFile(database, buckets, upload, signal);
      // The client was gone before the reply, so nobody knows the id and the file would be orphaned.
      if (signal.aborted) await removeFile(database, buckets, file.id);
      signal.throwIfAborted();
      return toFile(file);
    },

    async getFile({ fileId }, { values }) {
      return toFile(await requireFile(pool, tables, fileId, values.get(principal)));
    },

    async listFiles(request, { values }) {
      const { project, readers } = values.get(principal);
      const page = readPage(request, { max: limits.files_page_max, fallback: limits.files_page_max });
      const find = async (id: string) =>
        (await findFilePosition(pool, tables, id, project)) ?? positionOfIdentifier(id);
      const after = await readPosition(request.after, "after", find, "file");
      const purpose = isStorable(request.purpose ?? "") ? request.purpose : "";
      const rows = await listFiles(pool, tables, {
        ...page,
        project,
        after,
        purpose,
        isForReader: readers !== undefined,
      });
      return create(ListFilesResponseSchema, toPage(page, rows, toFile));
    },

    async deleteFile({ fileId: id }, { values }) {
      const { project, readers } = values.get(principal);
      const options = { project, isForReader: readers !== undefined, isRequired: true };
      if (!(await removeFile(database, buckets, id, options))) throw fileNotFound(id);
      return create(DeleteFileResponseSchema, { id, object: "file", deleted: true });
    },

    async *getFileContent(request, { signal, values }) {
      const file = await requireFile(pool, tables, request.fileId, values.get(principal));
      yield create(GetFileContentResponseSchema, { file: toFile(file) });
      const range = readRange(Number(file.bytes), request);
      for await (const piece of openFile(database, buckets, file, range, signal)) {
        for (let start = 0; start < piece.length; start += MESSAGE_BYTES)
          yield create(GetFileContentResponseSchema, { data: piece.subarray(start, start + MESSAGE_BYTES) });
      }
    },
  };
}

/** How long a sweep removes expired files' bytes immediately; later ones are left to `removeLeftovers`. */
const EXPIRED_BYTES_MS = 60_000;

/**
 * Deletes expired files, in order of expiry and `rowsMax` per query, and removes them from every store. A
 * failure skips the file; after `rowsMax` failures the sweep ends. The first error is thrown at the end.
 * Objects in an unreachable bucket are left to `removeLeftovers`.
 */
export async function deleteExpiredFiles(
  database: Database,
  buckets: Buckets,
  rowsMax: number,
  signal: AbortSignal,
): Promise<void> {
  // Excluded from the next query: a file that is neither removed nor excluded would be found again at once, a
  // busy loop.
  const kept = new Set<string>();
  const errors: unknown[] = [];
  const removal = { expired: true, signal: AbortSignal.any([signal, AbortSignal.timeout(EXPIRED_BYTES_MS)]) };
  for (let ids: string[] = []; kept.size < rowsMax;) {
    ids = await findExpiredFiles(database.pool, database.tables, rowsMax, [...kept]);
    if (ids.length === 0) break;
    for (const id of ids) {
      if (signal.aborted) return;
      try {
        if (!(await removeFile(database, buckets, id, removal))) kept.add(id);
      } catch (error) {
        kept.add(id);
        errors.push(error);
      }
    }
  }
  if (errors.length > 0) throw errors[0];
}

/**
 * Deletes a file and removes it from every store; false when the file does not exist. With `expired`, deletes
 * only a file whose expiry has passed.
 */
async function removeFile(
  database: Database,
  buckets: Buckets,
  id: string,
  options?: FileDeletion & { isRequired?: boolean; signal?: AbortSignal },
): Promise<boolean> {
  const { pool, tables } = database;
  if (!isStorable(id)) return false;
  const file = await transaction(pool, async (client) => {
    const deleted = await deleteFile(client, tables, id, options);
    if (deleted === undefined && options?.isRequired === true) throw fileNotFound(id);
    if (deleted !== undefined) await detachFile(client, tables, id);
    return deleted;
  });
  if (file === undefined) return false;
  // The deletion is committed, so an error here must not fail the call: `removeLeftovers` retries.
  await removeBytes(database, buckets, file, options?.signal).catch(() => {});
  return true;
}

async function requireFile(
  client: Queryable,
  tables: Tables,
  id: string,
  { project, readers }: Principal,
): Promise<FileRow> {
  const isForReader = readers !== undefined;
  const file = isStorable(id) ? await findFile(client, tables, id, project, isForReader) : undefined;
  if (file === undefined) throw fileNotFound(id);
  return file;
}

/**
 * Splits the messages of an upload into the bytes and the metadata, which may come in any order. `describe`
 * is valid after `content` has been read to its end.
 */
function readUpload(
  messages: Messages<UploadFileRequest>,
  bytesMax: number,
  checkRoom: CheckRoom,
  signal: AbortSignal,
) {
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
        if (announced !== undefined) {
          checkRange("bytes", Number(announced), 0, Infinity);
          checkRoom(Number(announced));
        }
      } else if (part.case === "data") {
        bytes += part.value.length;
        if (bytes > bytesMax)
          throw tooLarge(`The file is too large: expected at most ${bytesMax} bytes.`, "file");
        checkRoom(bytes);
        yield part.value;
      } else throw missingParameter("data");
    }
    if (announced === undefined) await delay(END_DOUBT_MS);
    signal.throwIfAborted();
  }
  const describe = (): FileDescription => {
    if (description === undefined) throw missingParameter("metadata");
    if (announced !== undefined && announced !== BigInt(bytes)) {
      const message = `Invalid 'bytes': the file was announced with ${announced} bytes, but ${bytes} were received.`;
      throw invalidArgument("bytes", message);
    }
    return description;
  };
  return { content: content(), describe };
}
