import type { Document, DocumentLimits } from "./document.ts";
import type { DocumentErrorCode } from "./error.ts";

/** What the reader says to a reading process: one message for each answer. */
export type Request =
  | { kind: "read"; document: Document; limits: DocumentLimits }
  /** Answers `need`. */
  | { kind: "bytes"; bytes: Uint8Array }
  | { kind: "end" }
  /** Answers `chunks`. */
  | { kind: "more" };

/** What a reading process answers, and `ready` when it has started. */
export type Answer =
  | { kind: "ready" }
  | { kind: "need" }
  | { kind: "chunks"; chunks: string[] }
  /** The file is read. `rssBytes` is the memory the process holds. */
  | { kind: "done"; rssBytes: number }
  | { kind: "failed"; code: DocumentErrorCode; message: string; cause: string; rssBytes: number };

/** The signal by which a reading process ends itself when it takes too much memory. V8 ends one by SIGABRT. */
export const TOO_MUCH_MEMORY = "SIGUSR2";
