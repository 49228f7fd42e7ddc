/** What is being done with a file. */
export type Stage = "reading" | "embedding" | "storing";

/** How far an attempt is to process a file, as its row has it. */
export interface FileProgress {
  /** The attempt. */
  claim: string;
  stage: Stage;
  bytesRead: number;
  bytesTotal: number;
  pages: { read: number; total: number } | null;
  chunksRead: number;
  chunksEmbedded: number;
  /** Of these, how many have the vector from the file that is replaced. Absent in rows of versions before. */
  chunksReused?: number;
}

/** The progress of an attempt that begins. */
export function beginProgress(claim: string): FileProgress {
  return {
    claim,
    stage: "reading",
    bytesRead: 0,
    bytesTotal: 0,
    pages: null,
    chunksRead: 0,
    chunksEmbedded: 0,
    chunksReused: 0,
  };
}
