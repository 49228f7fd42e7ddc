import { isUtf8 } from "node:buffer";
import { create } from "@bufbuild/protobuf";
import type { FastifyRequest } from "fastify";
import {
  FileService,
  UploadFileMetadataSchema,
  type UploadFileRequest,
} from "../../../gen/pgquiver/v1/files_pb.ts";
import {
  VectorStoreFileErrorCode,
  VectorStoreFileService,
  VectorStoreFileStatus,
  type VectorStoreFile,
} from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { deadlineExceeded, invalidArgument, missingParameter, tooLarge } from "../../errors.ts";
import type { Calls } from "../../wire/doors/calls.ts";
import { readFormAs } from "../../wire/rest/multipart.ts";
import type { Json } from "../json.ts";
import { waitUntilProcessed } from "../processing.ts";
import { PUBLIC } from "./documents.ts";

/** How long `embed` waits for a file to be processed. */
const WAIT_MS = 300_000;
/** Bytes of a file whose text `text` returns. */
const TEXT_BYTES_MAX = 4 * 1024 * 1024;
/** Characters of an attribute. */
const ATTRIBUTE_CHARS_MAX = 512;

/** The parts of LibreChat's forms beside the file. */
const FIELDS: ReadonlySet<string> = new Set(["file_id", "entity_id", "storage_metadata"]);

/** A form that is read while its file is received. */
interface Form {
  messages: AsyncGenerator<UploadFileRequest>;
  /** The file's name and the other parts, once the form was read. */
  read: () => { filename: string; fileId: string; entityId: string | undefined };
}

function openForm(request: FastifyRequest): Form {
  let filename = "";
  let texts: ReadonlyMap<string, string> = new Map();
  const isField = (name: string) => FIELDS.has(name);
  const messages = readFormAs(request, isField, (name, fields) => {
    if ((fields.get("file_id") ?? "") === "") throw missingParameter("file_id");
    filename = name;
    texts = fields;
    return create(UploadFileMetadataSchema, { filename, purpose: "assistants" });
  });
  const read = () => ({
    filename,
    fileId: texts.get("file_id") ?? "",
    entityId: texts.get("entity_id") || undefined,
  });
  return { messages, read };
}

/** Stores and embeds a file; the reply comes when searches find it. A file that cannot be embedded is not kept. */
export async function embed(calls: Calls, vectorStoreId: string, request: FastifyRequest): Promise<Json> {
  const form = openForm(request);
  const { id } = await calls.upload(FileService.method.uploadFile, form.messages);
  const { filename, fileId, entityId } = form.read();
  try {
    const attributes = {
      file_id: fileId,
      user_id: entityId ?? PUBLIC,
      source: filename.slice(0, ATTRIBUTE_CHARS_MAX),
    };
    const attach = { vectorStoreId, fileId: id, attributes };
    const attached = await calls.unary(VectorStoreFileService.method.createVectorStoreFile, attach);
    checkProcessed(await waitUntilProcessed(calls, attached, WAIT_MS));
    return {
      status: true,
      message: "File processed successfully.",
      file_id: fileId,
      filename,
      known_type: true,
    };
  } catch (error) {
    await calls.unary(FileService.method.deleteFile, { fileId: id }).catch(() => {});
    if (error !== UNSUPPORTED) throw error;
    // LibreChat then says that it does not support the type of the file.
    return { status: true, message: UNSUPPORTED.message, file_id: fileId, filename, known_type: false };
  }
}

const UNSUPPORTED = new Error("The service cannot read files of this type.");

function checkProcessed({ status, lastError }: VectorStoreFile): void {
  if (status === VectorStoreFileStatus.COMPLETED) return;
  if (lastError?.code === VectorStoreFileErrorCode.UNSUPPORTED_FILE) throw UNSUPPORTED;
  if (status === VectorStoreFileStatus.IN_PROGRESS)
    throw deadlineExceeded(`The file was not processed within ${WAIT_MS / 1000} seconds.`);
  throw invalidArgument("file", `Error during file processing: ${lastError?.message ?? "it was cancelled."}`);
}

/** Returns the text of a file in UTF-8, which is not stored. LibreChat itself reads what this refuses. */
export async function extractText(request: FastifyRequest): Promise<Json> {
  const form = openForm(request);
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const { part } of form.messages) {
    if (part.case !== "data") continue;
    length += part.value.length;
    if (length > TEXT_BYTES_MAX) throw tooLarge(`The file has more than ${TEXT_BYTES_MAX} bytes.`);
    pieces.push(part.value);
  }
  const bytes = Buffer.concat(pieces);
  if (!isUtf8(bytes) || bytes.includes(0))
    throw invalidArgument("file", "Error during text extraction: the file is no text in UTF-8.");
  const { filename, fileId } = form.read();
  return { text: bytes.toString("utf8"), file_id: fileId, filename, known_type: true };
}
