import type { DocumentChunk } from "./cutter.ts";
import type { Document, DocumentLimits, Pages } from "./document.ts";
import type { DocumentErrorCode } from "./error.ts";

/** Messages from the parent to a reading process; each gets exactly one `Answer`. */
export type Request =
  /** Start reading a file. */
  | { kind: "read"; document: Document; limits: DocumentLimits }
  /** The next bytes of the file, in reply to `need`. */
  | { kind: "bytes"; bytes: Uint8Array }
  /** The file has no more bytes, in reply to `need`. */
  | { kind: "end" }
  /** The batch was taken, in reply to `chunks`. */
  | { kind: "more" };

/** Messages from a reading process to the parent; `ready` comes unasked, once the process has started. */
export type Answer =
  | { kind: "ready" }
  /** The process needs more bytes of the file. */
  | { kind: "need" }
  | { kind: "chunks"; chunks: DocumentChunk[]; pages?: Pages | undefined }
  /** The file was read to its end. `rssBytes`: resident memory of the process. */
  | { kind: "done"; rssBytes: number }
  | { kind: "failed"; code: DocumentErrorCode; message: string; cause: string; rssBytes: number };
