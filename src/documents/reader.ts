import { limits } from "../limits.ts";
import type { Chunking, DocumentChunk } from "./cutter.ts";
import { DocumentError, readerFailed } from "./error.ts";
import type { Pages } from "./document.ts";
import type { Request } from "./messages.ts";
import { ProcessPool } from "./pool.ts";
import type { ReadingProcess } from "./process.ts";

export type { Chunking, DocumentChunk } from "./cutter.ts";
export { DocumentError } from "./error.ts";

/** Maximum bytes of one message to a reading process. */
const PART_BYTES = 262_144;

/** A stored file to be read. */
export interface DocumentSource {
  filename: string;
  /** Size of the file; fewer or more bytes from `open` are a `server_error`. */
  bytes: number;
  /** Streams the file's bytes from the start. The signal aborts when the read is cancelled. */
  open(signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** Called with the pages read so far, of a format that has pages. */
  onPages?: (pages: Pages) => void;
}

export interface DocumentReaderOptions {
  /**
   * Maximum number of reading processes, one file each. A process takes about 100 MB until it has been idle
   * for a minute.
   */
  workers: number;
  /**
   * Maximum resident memory of a process, 256 MiB or more; a file may use what exceeds the base of about 100
   * MB.
   */
  memoryBytes: number;
  /**
   * Milliseconds of work on one file, without the time spent waiting for its bytes and for the consumer of
   * its chunks: `timeoutMs`, more by `timeoutMsPerMib` for each MiB of the file, up to `timeoutMsMax`.
   */
  timeoutMs: number;
  timeoutMsPerMib: number;
  timeoutMsMax: number;
  /** Maximum UTF-8 bytes of text extracted from one file. */
  textBytesMax: number;
  /** Maximum number of chunks of one file. */
  chunksMax: number;
}

/**
 * Extracts text in sandboxed child processes, so that no file can block this process or exhaust its memory.
 */
export interface DocumentReader {
  /**
   * Extracts the text of a file and yields its chunks in order, in batches of up to 64. Backpressure: at most
   * two batches are read ahead of the consumer. Throws a DocumentError, the source's error, or the signal's
   * reason; a failure may come after chunks were yielded.
   */
  read(source: DocumentSource, chunking: Chunking, signal: AbortSignal): AsyncIterable<DocumentChunk[]>;
  /** Kills the processes. Reads in progress fail with `server_error`. */
  close(): Promise<void>;
}

/** Creates a document reader. Processes are started on demand. */
export function createDocumentReader(options: DocumentReaderOptions): DocumentReader {
  const pool = new ProcessPool(options);
  return {
    async *read(source, chunking, signal) {
      const process = await pool.take(signal);
      const stop = () => process.kill(signal.reason);
      signal.addEventListener("abort", stop);
      try {
        signal.throwIfAborted();
        yield* converse(
          process,
          source,
          toRequest(source, chunking, options),
          timeoutOf(source, options),
          signal,
        );
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

function timeoutOf({ bytes }: DocumentSource, options: DocumentReaderOptions): number {
  const { timeoutMs, timeoutMsPerMib, timeoutMsMax } = options;
  return Math.min(timeoutMs + (bytes / 1_048_576) * timeoutMsPerMib, timeoutMsMax);
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

/** Runs the protocol of messages.ts for one file: sends bytes on request, yields batches of chunks. */
async function* converse(
  process: ReadingProcess,
  source: DocumentSource,
  request: Request,
  timeoutMs: number,
  signal: AbortSignal,
): AsyncGenerator<DocumentChunk[]> {
  const parts = splitParts(source.open(signal));
  let bytesLeft = source.bytes;
  try {
    let next = process.ask(request, timeoutMs);
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
          if (answer.pages !== undefined) source.onPages?.(answer.pages);
          next = process.ask({ kind: "more" });
          // Prevents an unhandled rejection while the consumer holds the generator; the next turn awaits the
          // promise.
          next.catch(() => {});
          yield answer.chunks;
          break;
        case "failed":
          throw new DocumentError(answer.code, answer.message, { cause: answer.cause });
        case "done":
          if (bytesLeft !== 0)
            throw readerFailed("The stored file has fewer or more bytes than its recorded size.");
          return;
        case "ready":
          throw readerFailed("The reading process sent an unexpected answer.");
      }
    }
  } finally {
    await parts.return(undefined);
  }
}

/** Splits the bytes into pieces of at most `PART_BYTES`. */
async function* splitParts(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  for await (const part of bytes) {
    for (let start = 0; start < part.length; start += PART_BYTES) {
      yield part.subarray(start, start + PART_BYTES);
    }
  }
}
