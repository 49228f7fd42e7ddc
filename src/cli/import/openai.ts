import type { JsonObject, MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import OpenAI, { BadRequestError, NotFoundError, PermissionDeniedError } from "openai";
import { FileService, type UploadFileRequestSchema } from "../../../gen/pgquiver/v1/files_pb.ts";
import {
  ChunkingStrategyType,
  VectorStoreFileService,
  type VectorStoreFileBatchItemSchema,
} from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { mapConcurrently } from "../../api/concurrency/semaphore.ts";
import { attach } from "../attachment.ts";
import type { Connection } from "../connection.ts";
import { describeFailure, EXIT, Failed } from "../exit.ts";
import { Progress } from "../output.ts";

/** What is read of OpenAI, or of what speaks its API. */
export interface OpenAIOptions {
  from: string;
  sourceKey: string | undefined;
  /** Id of the vector store there. */
  vectorStore: string;
}

/** Files that are copied at the same time, and those that are attached as a batch. */
const COPIES_MAX = 4;
const BATCH_FILES = 100;
/** The attribute that says which file a copy is of, so that a second import leaves it out; the API allows 16. */
const ORIGIN = "source_file_id";
const ATTRIBUTES_MAX = 16;

type SourceFile = OpenAI.VectorStores.VectorStoreFile;
type Item = MessageInitShape<typeof VectorStoreFileBatchItemSchema>;

/**
 * Copies the files of a vector store, with their attributes and chunk sizes, and waits until they are searchable. Files that
 * an earlier import has copied are left out. Throws when some failed: exit code 3.
 */
export async function importFiles(
  connection: Connection,
  store: string,
  { from, sourceKey, vectorStore }: OpenAIOptions,
  isJson: boolean,
): Promise<void> {
  // The SDK asks for a key also where the service needs none.
  const source = new OpenAI({ baseURL: from, apiKey: sourceKey ?? "none", maxRetries: 5 });
  const client = connection.client(VectorStoreFileService);
  const known = await listOrigins(client, store);
  const counts = { read: 0, present: 0, completed: 0, failed: 0 };
  const progress = new Progress(
    () =>
      `${counts.read} files read, ${counts.present} were here, ${counts.completed} searchable, ${counts.failed} failed`,
  );
  const fail = (file: string, reason: string) => {
    counts.failed++;
    progress.say(`${file}: ${reason}`);
  };
  const copyAll = async (files: SourceFile[]) => {
    const copied = await mapConcurrently<SourceFile, Item[]>(
      files,
      COPIES_MAX,
      (file) =>
        copy(source, connection.client(FileService), file).catch(
          (error: unknown) => (fail(file.id, describeFailure(error)), []),
        ),
      new AbortController().signal,
    );
    const items = copied.flat();
    counts.read += items.length;
    if (items.length === 0) return;
    const before = counts.completed;
    const failures = await attach(
      client,
      store,
      items,
      ({ completed }) => (counts.completed = before + completed),
    );
    for (const { id, error } of failures) fail(id, error);
  };
  try {
    let waiting: SourceFile[] = [];
    for await (const file of source.vectorStores.files.list(vectorStore, { limit: 100, order: "asc" })) {
      if (known.has(file.id)) counts.present++;
      else if (file.status === "completed") waiting.push(file);
      else fail(file.id, `it is ${file.status} there`);
      if (waiting.length === BATCH_FILES) {
        await copyAll(waiting);
        waiting = [];
      }
    }
    await copyAll(waiting);
  } finally {
    progress.end();
  }
  if (isJson) process.stdout.write(`${JSON.stringify(counts)}\n`);
  if (counts.failed > 0) throw new Failed(`${counts.failed} files were not copied.`, EXIT.incomplete);
}

/** The files that earlier imports have copied into the store. */
async function listOrigins(
  client: Client<typeof VectorStoreFileService>,
  vectorStoreId: string,
): Promise<Set<unknown>> {
  const origins = new Set<unknown>();
  let after: string | undefined;
  do {
    const page = await client.listVectorStoreFiles({
      vectorStoreId,
      limit: 100,
      ...(after !== undefined && { after }),
    });
    for (const { attributes } of page.data) {
      const origin = attributes?.[ORIGIN];
      if (origin !== undefined) origins.add(origin);
    }
    after = page.hasMore ? page.lastId : undefined;
  } while (after !== undefined);
  return origins;
}

/** Uploads one file. Returns what is to be attached. */
async function copy(
  source: OpenAI,
  client: Client<typeof FileService>,
  { id, vector_store_id, attributes, chunking_strategy: chunking }: SourceFile,
): Promise<Item[]> {
  const { filename } = await source.files.retrieve(id);
  const { name, bytes } = await readFile(source, vector_store_id, id, filename);
  const { id: fileId } = await client.uploadFile(toMessages(name, bytes), { timeoutMs: 0 });
  const kept = (attributes ?? {}) as JsonObject;
  const hasRoom = Object.keys(kept).length < ATTRIBUTES_MAX;
  return [
    {
      fileId,
      attributes: hasRoom ? { ...kept, [ORIGIN]: id } : kept,
      ...(chunking?.type === "static" && {
        chunkingStrategy: {
          type: ChunkingStrategyType.STATIC,
          static: {
            maxChunkSizeTokens: chunking.static.max_chunk_size_tokens,
            chunkOverlapTokens: chunking.static.chunk_overlap_tokens,
          },
        },
      }),
    },
  ];
}

/** The file's bytes; OpenAI does not give those of files for assistants back, but the text that it read from them. */
async function readFile(
  source: OpenAI,
  store: string,
  id: string,
  filename: string,
): Promise<{ name: string; bytes: AsyncIterable<Uint8Array> }> {
  try {
    const { body } = await source.files.content(id);
    if (body !== null) return { name: filename, bytes: body };
  } catch (error) {
    const isWithheld =
      error instanceof BadRequestError ||
      error instanceof PermissionDeniedError ||
      error instanceof NotFoundError;
    if (!isWithheld) throw error;
  }
  return {
    name: /\.(?:txt|md)$/i.test(filename) ? filename : `${filename}.txt`,
    bytes: readText(source, store, id),
  };
}

async function* readText(source: OpenAI, store: string, id: string): AsyncGenerator<Uint8Array> {
  for await (const { text } of source.vectorStores.files.content(id, { vector_store_id: store }))
    if (text !== undefined) yield Buffer.from(`${text}\n`);
}

async function* toMessages(
  filename: string,
  bytes: AsyncIterable<Uint8Array>,
): AsyncGenerator<MessageInitShape<typeof UploadFileRequestSchema>> {
  yield { part: { case: "metadata", value: { filename, purpose: "assistants" } } };
  for await (const value of bytes) yield { part: { case: "data", value: Uint8Array.from(value) } };
}
