import { randomUUID } from "node:crypto";
import { create, type MessageShape } from "@bufbuild/protobuf";
import {
  FileService,
  UploadFileMetadataSchema,
  UploadFileRequestSchema,
  type UploadFileRequest,
} from "../../../gen/pgquiver/v1/files_pb.ts";
import {
  CreateVectorStoreFileRequestSchema,
  VectorStoreFileService,
  VectorStoreFileStatus,
} from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import {
  CreateVectorStoreRequestSchema,
  VectorStoreService,
} from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { Scope } from "../../../gen/pgquiver/v1/options_pb.ts";
import { invalidArgument, missingParameter } from "../../errors.ts";
import type { Calls } from "../../wire/doors/calls.ts";
import { readMessage } from "../../wire/rest/json-reader.ts";
import { readLegacy } from "../../wire/rest/legacy.ts";
import { isObject } from "../../wire/rest/json-reader.ts";
import { readObject, readText, type Json } from "../json.ts";
import { waitUntilProcessed } from "../processing.ts";

/** How long a reply waits for the file to be processed. */
const WAIT_MS = 20_000;

/** What is to be ingested, and where. */
export interface IngestRequest {
  /** The options, as they were sent. */
  options: Json;
  /** The store that is named; undefined: a new one. */
  storeId: string | undefined;
  /** A file that was uploaded before; undefined: the request has the file. */
  fileId: string | undefined;
}

/** Reads the options of a request. Throws INVALID_ARGUMENT for what the service does not do. */
export function readIngestRequest(json: Json): IngestRequest {
  const options = readObject(json["ingest_options"], "ingest_options");
  const store = options["vector_store"];
  if (!isObject(store)) throw missingParameter("ingest_options.vector_store");
  for (const [from, name] of [
    [json, "file_url"],
    [options, "ocr"],
  ] as const) {
    if (from[name] !== undefined && from[name] !== null)
      throw invalidArgument(name, `Unsupported '${name}': the service fetches no URLs and reads no images.`);
  }
  const storeId = store["vector_store_id"] ?? undefined;
  const fileId = json["file_id"] ?? undefined;
  return {
    options,
    storeId: storeId === undefined ? undefined : readText(store, "vector_store_id"),
    fileId: fileId === undefined ? undefined : readText(json, "file_id"),
  };
}

/** Reads the file of a JSON request, whose content is base64, as the messages of an upload. */
export async function* readEncodedFile(json: Json): AsyncGenerator<UploadFileRequest> {
  const file = readObject(json["file"], "file");
  const content = readText(file, "content", "file.content");
  if (!/^[A-Za-z0-9+/\s]*={0,2}\s*$/.test(content))
    throw invalidArgument("file.content", "Invalid 'file.content': expected base64.");
  const value = Buffer.from(content, "base64");
  const metadata = metadataOf(readText(file, "filename", "file.filename"));
  metadata.bytes = BigInt(value.length);
  yield create(UploadFileRequestSchema, { part: { case: "metadata", value: metadata } });
  yield create(UploadFileRequestSchema, { part: { case: "data", value } });
}

/** The metadata of an uploaded file. */
export function metadataOf(filename: string): MessageShape<typeof UploadFileMetadataSchema> {
  return create(UploadFileMetadataSchema, { filename, purpose: "assistants" });
}

/**
 * Uploads a file, unless it was before, and attaches it to a store, which is made unless it is named. A file that cannot be
 * attached is not kept, nor is its new store. `request` is read after the upload, since a form may name the store last.
 */
export async function ingest(
  calls: Calls,
  upload: AsyncIterable<UploadFileRequest> | undefined,
  request: () => IngestRequest,
): Promise<Json> {
  const { unary } = calls;
  const uploaded =
    upload === undefined ? undefined : (await calls.upload(FileService.method.uploadFile, upload)).id;
  let made: string | undefined;
  try {
    const { options, storeId, fileId } = request();
    const file = uploaded ?? fileId;
    if (file === undefined) throw missingParameter("file");
    made = storeId === undefined ? await makeStore(calls, options) : undefined;
    const vectorStoreId = storeId ?? (made as string);
    const attached = await attach(calls, vectorStoreId, file, options);
    const mayRead = calls.caller.scopes.has(Scope.FILES_READ);
    const { status } = mayRead ? await waitUntilProcessed(calls, attached, WAIT_MS) : attached;
    return {
      id: `ingest_${randomUUID()}`,
      status: STATUSES.get(status) ?? "failed",
      vector_store_id: vectorStoreId,
      file_id: file,
    };
  } catch (error) {
    // What is left behind is harmless, and the first error says more than the second.
    if (made !== undefined)
      await unary(VectorStoreService.method.deleteVectorStore, { vectorStoreId: made }).catch(() => {});
    if (uploaded !== undefined)
      await unary(FileService.method.deleteFile, { fileId: uploaded }).catch(() => {});
    throw error;
  }
}

const STATUSES: ReadonlyMap<VectorStoreFileStatus, string> = new Map([
  [VectorStoreFileStatus.IN_PROGRESS, "in_progress"],
  [VectorStoreFileStatus.COMPLETED, "completed"],
]);

async function makeStore({ unary }: Calls, options: Json): Promise<string> {
  const days = readObject(options["vector_store"])["ttl_days"] ?? undefined;
  const request = readMessage(CreateVectorStoreRequestSchema, {
    name: options["name"] ?? "litellm-rag-ingest",
    ...(days !== undefined && { expires_after: { anchor: "last_active_at", days } }),
  }) as MessageShape<typeof CreateVectorStoreRequestSchema>;
  return (await unary(VectorStoreService.method.createVectorStore, request)).id;
}

async function attach({ unary }: Calls, vectorStoreId: string, fileId: string, options: Json) {
  const method = VectorStoreFileService.method.createVectorStoreFile;
  const { json } = readLegacy(method, {
    vector_store_id: vectorStoreId,
    file_id: fileId,
    chunking_strategy: options["chunking_strategy"] ?? null,
  });
  const request = readMessage(CreateVectorStoreFileRequestSchema, json);
  return unary(method, request as MessageShape<typeof CreateVectorStoreFileRequestSchema>);
}
