import { createHash } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  UploadPartSchema,
  UploadSchema,
  UploadStatus,
  type AddUploadPartRequest,
  type CompleteUploadRequest,
  type CreateUploadRequest,
  type FileService,
  type Upload,
} from "../../gen/pgquiver/v1/files_pb.ts";
import { checkLength, checkRange, checkText } from "../api/checks.ts";
import { makeIdentifier } from "../api/identifier.ts";
import { Messages } from "../api/message-reader.ts";
import { principal, type Principal } from "../api/principal.ts";
import { toSeconds } from "../api/time.ts";
import {
  failedPrecondition,
  invalidArgument,
  missingParameter,
  notFound,
  rateLimited,
  tooLarge,
  uploadNotFound,
} from "../errors.ts";
import { limits } from "../limits.ts";
import { lockExclusive } from "../postgres/advisory.ts";
import type { Client, Database, Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { isStorable } from "../postgres/text.ts";
import { transaction } from "../postgres/transaction.ts";
import { checkAnnounced } from "../storage/file-quotas.ts";
import type { Buckets } from "./buckets.ts";
import { openFile } from "./content.ts";
import { removeBytes } from "./leftovers.ts";
import { PART_BYTES } from "./parts.ts";
import { readDescription } from "./request.ts";
import { findFile } from "./rows.ts";
import { toFile } from "./reply.ts";
import { adoptParts, storeFile, type FileDescription, type Upload as StoredUpload } from "./upload.ts";
import {
  countPending,
  deleteParts,
  endUpload,
  findUpload,
  insertUpload,
  measureParts,
  takeParts,
  type PartRow,
  type UploadRow,
  type UploadState,
} from "./uploads.ts";

type Methods = Pick<
  ServiceImpl<typeof FileService>,
  "createUpload" | "addUploadPart" | "completeUpload" | "cancelUpload"
>;

/** How uploads in parts are received. */
export interface UploadOptions {
  /** Maximum size of a file that is uploaded in parts, in bytes. */
  bytesMax: number;
  /** Idle timeout of a part: milliseconds without a message from the client. */
  idleMs: number;
  /** How long the end of a part of unknown length is doubted: see `readUpload`. */
  endDoubtMs: number;
  /** Reserves memory for what is written. */
  reserve: (id: string, caller: Principal["caller"], signal: AbortSignal) => Promise<Disposable>;
}

/** A shutdown does not stop a part: a part either ends within the grace period or is cut off. */
const NEVER = new AbortController().signal;

/** Bytes of the parts of an upload, as a multiple of the announced ones: a part whose reply was lost is sent once more. */
const PARTS_BYTES_FACTOR = 2;

const PENDING_RETRY_MS = 60_000;

/** Implements uploads in parts: each part is stored like a file that no reader sees, and the file is copied from the parts. */
export function uploadMethods(database: Database, buckets: Buckets, options: UploadOptions): Methods {
  return { ...opening(database, buckets, options), ...filling(database, buckets, options) };
}

function opening(
  database: Database,
  buckets: Buckets,
  options: UploadOptions,
): Pick<Methods, "createUpload" | "cancelUpload"> {
  const { pool, tables } = database;
  return {
    async createUpload(request, { values }) {
      const { project } = values.get(principal);
      const upload = { ...readUploadRequest(request, options.bytesMax), project };
      const row = await transaction(pool, async (client) => {
        // Calls of one project take turns, so that each counts what the one before has begun.
        await lockExclusive(client, tables, `pgquiver uploads ${project}`);
        if ((await countPending(client, tables, project)) >= limits.uploads_pending_max) {
          const message = `The project has ${limits.uploads_pending_max} pending uploads: complete or cancel one.`;
          throw rateLimited(message, PENDING_RETRY_MS);
        }
        await checkAnnounced(client, tables, project, upload.bytes);
        const made = makeIdentifier("upload");
        return insertUpload(client, tables, { ...made, ...upload, secondsMax: limits.upload_seconds_max });
      });
      return toUpload(pool, tables, row, project);
    },

    async cancelUpload({ uploadId }, { values }) {
      const { project } = values.get(principal);
      const { row, parts } = await transaction(pool, async (client) => {
        const upload = await requireUpload(client, tables, uploadId, project, "for update");
        if (upload.status === "cancelled") return { row: upload, parts: [] };
        requireStatus(upload);
        const ended = await endUpload(client, tables, upload.id, "cancelled");
        return { row: ended, parts: await deleteParts(client, tables, upload.id) };
      });
      await removeParts(database, buckets, parts);
      return toUpload(pool, tables, row, project);
    },
  };
}

function filling(
  database: Database,
  buckets: Buckets,
  options: UploadOptions,
): Pick<Methods, "addUploadPart" | "completeUpload"> {
  const { pool, tables } = database;
  return {
    async addUploadPart(requests, { signal, values }) {
      const { caller, project } = values.get(principal);
      const messages = new Messages(requests, { idleMs: options.idleMs, draining: NEVER }, signal);
      const { uploadId, bytes } = await readPartMetadata(messages);
      const upload = await requirePending(pool, tables, uploadId, project);
      await checkRoom(pool, tables, upload);
      const made = makeIdentifier("part");
      using _ = await options.reserve(made.id, caller, signal);
      const part = {
        ...made,
        project,
        partOf: upload.id,
        ...readPart(messages, { uploadId, announced: bytes, endDoubtMs: options.endDoubtMs, signal }),
        settle: async (client: Client) =>
          void (await requirePending(client, tables, uploadId, project, "for share")),
      };
      await storeFile(database, buckets, part, signal);
      return create(UploadPartSchema, {
        id: made.id,
        object: "upload.part",
        createdAt: toSeconds(made.createdAt),
        uploadId,
      });
    },

    async completeUpload(request, { signal, values }) {
      const { caller, project } = values.get(principal);
      const upload = await requireUpload(pool, tables, request.uploadId, project);
      if (upload.status === "completed") return toUpload(pool, tables, upload, project);
      requireStatus(upload);
      const complete = async () => {
        const parts = await readParts(database, request, upload, project);
        const made = makeIdentifier("file");
        using _ = await options.reserve(made.id, caller, signal);
        const content = joinParts(database, buckets, parts, request.md5, signal);
        const isRead = request.md5 !== undefined;
        const file = { ...made, upload, project, parts, content, isRead };
        return await completeFrom(database, buckets, file, signal);
      };
      const row = await complete().catch(async (error: unknown) => {
        // Another call has ended the upload meanwhile, whose parts are gone then.
        const current = await requireUpload(pool, tables, upload.id, project);
        if (current.status === "completed") return current;
        requireStatus(current);
        throw error;
      });
      return toUpload(pool, tables, row, project);
    },
  };
}

function readUploadRequest(
  request: CreateUploadRequest,
  bytesMax: number,
): FileDescription & { bytes: number } {
  const description = readDescription(request);
  if (request.mimeType === "") throw missingParameter("mime_type");
  checkText(request.mimeType, "mime_type", limits.mime_type_chars_max);
  const bytes = Number(request.bytes);
  checkRange("bytes", bytes, 1, bytesMax);
  return { ...description, bytes };
}

async function requireUpload(
  client: Queryable,
  tables: Tables,
  id: string,
  project: string,
  lock?: "for share" | "for update",
): Promise<UploadRow> {
  if (id === "") throw missingParameter("upload_id");
  const upload = isStorable(id) ? await findUpload(client, tables, id, project, lock) : undefined;
  if (upload === undefined) throw uploadNotFound(id);
  return upload;
}

async function requirePending(...asked: Parameters<typeof requireUpload>): Promise<UploadRow> {
  const upload = await requireUpload(...asked);
  requireStatus(upload);
  return upload;
}

function requireStatus({ id, status }: UploadRow): void {
  if (status === "pending") return;
  throw failedPrecondition("UPLOAD_NOT_PENDING", `Upload '${id}' is ${status}.`, "upload_id");
}

/** Refuses a part before it is received when the upload has as many parts or bytes as it may have. */
async function checkRoom(client: Queryable, tables: Tables, { id, bytes }: UploadRow): Promise<void> {
  const stored = await measureParts(client, tables, id);
  checkLength("parts", stored.count + 1, limits.upload_parts_max);
  const bytesMax = Number(bytes) * PARTS_BYTES_FACTOR;
  if (stored.bytes < bytesMax) return;
  throw tooLarge(
    `The parts of upload '${id}' have ${stored.bytes} bytes: it was announced with ${bytes}.`,
    "data",
  );
}

async function readPartMetadata(messages: Messages<AddUploadPartRequest>) {
  const first = await messages.next();
  if (first.kind !== "message" || first.message.part.case !== "metadata") throw missingParameter("metadata");
  return first.message.part.value;
}

/** Reads the bytes of a part. The length may also be announced by a last message, once all of them are there. */
function readPart(
  messages: Messages<AddUploadPartRequest>,
  given: { uploadId: string; announced: bigint | undefined; endDoubtMs: number; signal: AbortSignal },
) {
  let { announced } = given;
  let bytes = 0;
  async function* content(): AsyncGenerator<Uint8Array> {
    for (let next = await messages.next(); next.kind === "message"; next = await messages.next()) {
      const { part } = next.message;
      if (part.case === "metadata" && part.value.uploadId === given.uploadId) announced = part.value.bytes;
      else if (part.case === "data") {
        bytes += part.value.length;
        if (bytes > limits.upload_part_bytes_max)
          throw tooLarge(
            `The part is too large: expected at most ${limits.upload_part_bytes_max} bytes.`,
            "data",
          );
        yield part.value;
      } else throw missingParameter("data");
    }
    if (announced === undefined) await delay(given.endDoubtMs);
    given.signal.throwIfAborted();
  }
  const describe = (): FileDescription => {
    if (bytes === 0) throw invalidArgument("data", "Invalid 'data': the part is empty.");
    if (announced !== undefined && announced !== BigInt(bytes)) {
      const message = `Invalid 'bytes': the part was announced with ${announced} bytes, but ${bytes} were received.`;
      throw invalidArgument("bytes", message);
    }
    return { filename: "", purpose: "", expiresAfterSeconds: null };
  };
  return { content: content(), describe };
}

/** Finds the parts of a request, in its order. Throws when one does not exist, or they are not as long as announced. */
async function readParts(
  { pool, tables }: Database,
  { partIds, md5 }: CompleteUploadRequest,
  upload: UploadRow,
  project: string,
): Promise<PartRow[]> {
  if (partIds.length === 0) throw missingParameter("part_ids");
  checkLength("part_ids", partIds.length, limits.upload_parts_max);
  if (md5 !== undefined && !/^[0-9a-f]{32}$/i.test(md5))
    throw invalidArgument("md5", "Invalid 'md5': expected 32 hexadecimal digits.");
  const ids = partIds.filter(isStorable);
  const rows = await transaction(pool, async (client) => {
    // Before the parts are locked: who ends the upload would skip them.
    await requirePending(client, tables, upload.id, project, "for share");
    return takeParts(client, tables, upload.id, ids);
  });
  const byId = new Map(rows.map((row) => [row.id, row]));
  const parts = partIds.map((id, index) => {
    const part = byId.get(id);
    if (part === undefined) throw notFound(`No such Part object: ${id}`, `part_ids[${index}]`);
    return part;
  });
  if (byId.size < parts.length)
    throw invalidArgument("part_ids", "Invalid 'part_ids': a part is named twice.");
  const bytes = parts.reduce((sum, part) => sum + Number(part.bytes), 0);
  if (bytes !== Number(upload.bytes)) {
    const message = `Invalid 'part_ids': the upload was announced with ${upload.bytes} bytes, but the parts have ${bytes}.`;
    throw invalidArgument("part_ids", message);
  }
  return parts;
}

/** The bytes of parts, one after the other. Throws INVALID_ARGUMENT after the last when their MD5 is another one. */
async function* joinParts(
  database: Database,
  buckets: Buckets,
  parts: readonly PartRow[],
  md5: string | undefined,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  // Against damage on the way, which is all that OpenAI's field is for.
  const hash = md5 === undefined ? undefined : createHash("md5");
  for (const part of parts) {
    for await (const piece of openFile(database, buckets, part, undefined, signal)) {
      hash?.update(piece);
      yield piece;
    }
  }
  const found = hash?.digest("hex");
  if (found !== md5?.toLowerCase())
    throw invalidArgument("md5", `Invalid 'md5': the parts have the MD5 ${found}, not ${md5}.`);
}

/** A file to be made of parts. */
interface Joined extends Omit<StoredUpload, "describe"> {
  upload: UploadRow;
  parts: readonly PartRow[];
  /** Whether `content` must be read to its end, since it is compared with an MD5. */
  isRead: boolean;
}

/** Stores the file of an upload, ends the upload in the same transaction, and removes the parts. */
async function completeFrom(
  database: Database,
  buckets: Buckets,
  file: Joined,
  signal: AbortSignal,
): Promise<UploadRow> {
  const { tables } = database;
  const { id, project, upload } = file;
  let ended = { row: upload, parts: [] as PartRow[] };
  const settle = async (client: Client) => {
    await requirePending(client, tables, upload.id, project, "for update");
    const row = await endUpload(client, tables, upload.id, "completed", id);
    ended = { row, parts: await deleteParts(client, tables, upload.id) };
  };
  const stored = { ...file, describe: () => descriptionOf(upload), settle };
  if (canAdopt(file.parts) && buckets.placeObject(id) === null) {
    if (file.isRead) for await (const _ of file.content);
    await adoptParts(database, stored, file.parts);
  } else await storeFile(database, buckets, stored, signal);
  await removeParts(database, buckets, ended.parts);
  return ended.row;
}

/** Whether the bytes of parts can become those of a file as they are: see `adoptParts`. */
function canAdopt(parts: readonly PartRow[]): boolean {
  return parts.every(
    (part, index) =>
      part.object_url === null && (index === parts.length - 1 || Number(part.bytes) % PART_BYTES === 0),
  );
}

/** Removes the bytes of deleted parts. An error is no failure of the call, which is committed: `removeLeftovers` retries. */
async function removeParts(database: Database, buckets: Buckets, parts: readonly PartRow[]): Promise<void> {
  for (const part of parts) await removeBytes(database, buckets, part).catch(() => {});
}

function descriptionOf({ filename, purpose, expires_after_seconds: seconds }: UploadRow): FileDescription {
  return { filename, purpose, expiresAfterSeconds: seconds };
}

const STATUSES: Record<UploadState, UploadStatus> = {
  pending: UploadStatus.PENDING,
  completed: UploadStatus.COMPLETED,
  cancelled: UploadStatus.CANCELLED,
  expired: UploadStatus.EXPIRED,
};

async function toUpload(client: Queryable, tables: Tables, row: UploadRow, project: string): Promise<Upload> {
  const file = row.file_id === null ? undefined : await findFile(client, tables, row.file_id, project);
  return create(UploadSchema, {
    id: row.id,
    object: "upload",
    bytes: BigInt(row.bytes),
    createdAt: toSeconds(row.created_at),
    expiresAt: toSeconds(row.expires_at),
    filename: row.filename,
    purpose: row.purpose,
    status: STATUSES[row.status],
    ...(file !== undefined && { file: toFile(file) }),
  });
}
