import { limits } from "../limits.ts";
import type { Chunking } from "./cutter.ts";
import { DocumentError, readerFailed } from "./error.ts";
import type { Request } from "./messages.ts";
import { ProcessPool } from "./pool.ts";
import type { ReadingProcess } from "./process.ts";

export type { Chunking } from "./cutter.ts";
export { DocumentError } from "./error.ts";

/** Bytes sent to a reading process at a time. */
const PART_BYTES = 262_144;

/** A file as it is stored. */
export interface DocumentSource {
  filename: string;
  /** How many bytes it has. */
  bytes: number;
  /** Its bytes, from the start. The signal fires when no more are wanted. */
  open(signal: AbortSignal): AsyncIterable<Uint8Array>;
}

export interface DocumentReaderOptions {
  /** Processes, which is the number of files read at a time. Each takes some 100 MB, until it was idle for a minute. */
  workers: number;
  /** Memory of a process, of which a file may use all but those 100 MB. 256 MiB at least. */
  memoryBytes: number;
  /** Time one file may take, waiting for its bytes and for the taker of its chunks left out. */
  timeoutMs: number;
  /** UTF-8 bytes of text one file may give. */
  textBytesMax: number;
  /** Chunks one file may give. */
  chunksMax: number;
}

/** Reads files in processes of its own, so that no file can stop or bloat this one. */
export interface DocumentReader {
  /**
   * The text of a file, cut into chunks, in batches of up to some 64, in order. Two batches are ahead of the taker
   * at most. Throws a DocumentError, what the source throws, or the signal's reason; a file that is refused late has
   * given chunks before.
   */
  read(source: DocumentSource, chunking: Chunking, signal: AbortSignal): AsyncIterable<string[]>;
  /** Ends the processes. Reads under way fail with a `server_error`. */
  close(): Promise<void>;
}

/** Starts nothing before the first file comes. */
export function createDocumentReader(options: DocumentReaderOptions): DocumentReader {
  const pool = new ProcessPool(options);
  return {
    async *read(source, chunking, signal) {
      const process = await pool.take(signal);
      const stop = () => process.kill(signal.reason);
      signal.addEventListener("abort", stop);
      try {
        signal.throwIfAborted();
        yield* converse(process, source, toRequest(source, chunking, options), signal);
      } catch (error) {
        signal.throwIfAborted();
        throw error;
      } finally {
        signal.removeEventListener("abort", stop);
        pool.give(process);
      }
    },
    close: () => pool.close(),
  };
}

function toRequest(
  { filename }: DocumentSource,
  chunking: Chunking,
  { textBytesMax, chunksMax }: DocumentReaderOptions,
): Request {
  return {
    kind: "read",
    document: { filename, chunking },
    limits: {
      wholeBytesMax: limits.document_bytes_max,
      htmlBytesMax: limits.document_html_bytes_max,
      archiveEntriesMax: limits.document_entries_max,
      archiveBytesMax: limits.document_expanded_bytes_max,
      textBytesMax,
      chunksMax,
    },
  };
}

/** Gives the process a file's bytes as it asks for them, and gives out its chunks. */
async function* converse(
  process: ReadingProcess,
  source: DocumentSource,
  request: Request,
  signal: AbortSignal,
): AsyncGenerator<string[]> {
  const parts = splitParts(source.open(signal));
  let bytesLeft = source.bytes;
  try {
    let next = process.ask(request);
    for (;;) {
      const answer = await next;
      switch (answer.kind) {
        case "need": {
          const { value, done } = await parts.next();
          bytesLeft -= value?.length ?? 0;
          next = process.ask(done === true ? { kind: "end" } : { kind: "bytes", bytes: value });
          break;
        }
        case "chunks":
          next = process.ask({ kind: "more" });
          // Its failure is told below, when the taker comes back.
          next.catch(() => {});
          yield answer.chunks;
          break;
        case "failed":
          throw new DocumentError(answer.code, answer.message, { cause: answer.cause });
        case "done":
          if (bytesLeft !== 0) throw readerFailed("The file's bytes could not be read to the end.");
          return;
        case "ready":
          throw readerFailed("The reader of files answered out of turn.");
      }
    }
  } finally {
    await parts.return(undefined);
  }
}

/** The same bytes in pieces that a message may hold. */
async function* splitParts(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const part of bytes) {
    for (let start = 0; start < part.length; start += PART_BYTES) {
      yield part.subarray(start, start + PART_BYTES);
    }
  }
}
