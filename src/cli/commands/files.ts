import { createReadStream } from "node:fs";
import { glob, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { ConnectError } from "@connectrpc/connect";
import type { Command } from "commander";
import { FileService, type UploadFileRequestSchema } from "../../../gen/pgquiver/v1/files_pb.ts";
import {
  VectorStoreFileSchema,
  VectorStoreFileService,
  VectorStoreFileStatus,
  type VectorStoreFile,
} from "../../../gen/pgquiver/v1/vector_store_files_pb.ts";
import { mapConcurrently } from "../../api/concurrency/semaphore.ts";
import { attach, BATCH_FILES_MAX } from "../attachment.ts";
import { Connection, type GlobalOptions } from "../connection.ts";
import { describeFailure, EXIT, Failed } from "../exit.ts";
import { printJson, Progress } from "../output.ts";
import { watchToEnd } from "../watch.ts";

/** Uploads at the same time. */
const UPLOADS_MAX = 4;

/** Adds the commands that upload files for a store, and wait until they can be found. */
export function addFiles(program: Command): void {
  const group = program.command("files").description("add files to a store, and replace them");
  group
    .command("replace <store> <file-id> <path>")
    .description("upload a new version of a file, and wait until it has taken the file's place")
    .action(async (store: string, fileId: string, path: string) => {
      const { json, ...options } = program.opts<GlobalOptions>();
      const file = await replace(new Connection(options), store, fileId, path);
      if (json === true) printJson(VectorStoreFileSchema, file);
      else process.stdout.write(`${file.id} has taken the place of ${fileId}\n`);
    });
  group
    .command("add <store> <path...>")
    .description("upload files, or those of folders, and wait until they are searchable")
    .option("--glob <pattern>", "which files of a folder", "**/*")
    .action(async (store: string, paths: string[], { glob: pattern }: { glob: string }) => {
      const { json, ...options } = program.opts<GlobalOptions>();
      const connection = new Connection(options);
      const files = await listFiles(paths, pattern);
      if (files.length === 0) throw new Failed(`No file matches ${pattern}.`, EXIT.misused);
      const counts = { uploaded: 0, completed: 0, failed: 0 };
      const progress = new Progress(
        () =>
          `${files.length} files: ${counts.uploaded} uploaded, ${counts.completed} searchable, ${counts.failed} failed`,
      );
      try {
        const failures = await add(connection, store, files, counts);
        for (const { file, error } of failures) progress.say(`${file}: ${error}`);
        if (json === true) process.stdout.write(`${JSON.stringify({ ...counts, failures })}\n`);
      } finally {
        progress.end();
      }
      if (counts.failed > 0)
        throw new Failed(`${counts.failed} of ${files.length} files were not added.`, EXIT.incomplete);
    });
}

interface Failure {
  file: string;
  error: string;
}

async function add(
  connection: Connection,
  store: string,
  files: readonly string[],
  counts: { uploaded: number; completed: number; failed: number },
): Promise<Failure[]> {
  const failures: Failure[] = [];
  const names = new Map<string, string>();
  const client = connection.client(FileService);
  const uploaded = await mapConcurrently<string, string[]>(
    files,
    UPLOADS_MAX,
    async (file, signal) => {
      try {
        const { id } = await client.uploadFile(readUpload(file), { timeoutMs: 0, signal });
        counts.uploaded++;
        names.set(id, file);
        return [id];
      } catch (error) {
        // Of one file; a service that is away, or a wrong key, is the end of all.
        if (!(error instanceof ConnectError) || counts.uploaded === 0) throw error;
        counts.failed++;
        failures.push({ file, error: describeFailure(error) });
        return [];
      }
    },
    new AbortController().signal,
  );
  const ids = uploaded.flat();
  for (let start = 0; start < ids.length; start += BATCH_FILES_MAX) {
    const fileIds = ids.slice(start, start + BATCH_FILES_MAX);
    const before = { ...counts };
    const items = fileIds.map((fileId) => ({ fileId }));
    const attached = await attach(connection.client(VectorStoreFileService), store, items, (done) => {
      counts.completed = before.completed + done.completed;
      counts.failed = before.failed + done.failed;
    });
    failures.push(...attached.map(({ id, error }) => ({ file: names.get(id) ?? id, error })));
  }
  return failures;
}

/** Replaces a file of a store by one of this machine. What the service refuses to take is not kept. */
async function replace(
  connection: Connection,
  vectorStoreId: string,
  fileId: string,
  path: string,
): Promise<VectorStoreFile> {
  const files = connection.client(FileService);
  const client = connection.client(VectorStoreFileService);
  const { id: newFileId } = await files.uploadFile(readUpload(path), { timeoutMs: 0 });
  let file: VectorStoreFile;
  try {
    file = await client.replaceVectorStoreFile({ vectorStoreId, fileId, newFileId });
  } catch (error) {
    await files.deleteFile({ fileId: newFileId }).catch(() => {});
    throw error;
  }
  const open = () => client.watchVectorStoreFile({ vectorStoreId, fileId: newFileId }, { timeoutMs: 0 });
  for await (const state of watchToEnd(open)) file = state;
  if (file.status === VectorStoreFileStatus.COMPLETED) return file;
  const reason = file.lastError?.message ?? "It was cancelled.";
  throw new Failed(`${newFileId} did not take the place of ${fileId}, which stays: ${reason}`);
}

/** A file's messages: its metadata, then its bytes as they are read. */
async function* readUpload(file: string): AsyncGenerator<MessageInitShape<typeof UploadFileRequestSchema>> {
  const { size } = await stat(file);
  const metadata = { filename: basename(file), purpose: "assistants", bytes: BigInt(size) };
  yield { part: { case: "metadata", value: metadata } };
  for await (const value of createReadStream(file, { highWaterMark: 262_144 }))
    yield { part: { case: "data", value: value as Uint8Array<ArrayBuffer> } };
}

/** The files that are named, and those of the folders that are named. */
async function listFiles(paths: readonly string[], pattern: string): Promise<string[]> {
  const files: string[] = [];
  for (const path of paths) {
    if (!(await stat(path)).isDirectory()) files.push(path);
    else
      for await (const name of glob(pattern, { cwd: path }))
        if ((await stat(join(path, name))).isFile()) files.push(join(path, name));
  }
  return files.toSorted();
}
