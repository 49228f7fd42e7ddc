import type { ConnectError } from "@connectrpc/connect";
import type { EmbeddingInput } from "../../gen/pgquiver/v1/embeddings_pb.ts";
import type { IngestRequest } from "../../gen/pgquiver/v1/ingest_pb.ts";

/**
 * A message of an ingest's stream as its implementation receives it: as in the proto file, but a batch that came in
 * binary is still encoded, and a batch that came as NDJSON may have rows that could not be read.
 */
export interface ReceivedIngest {
  message:
    | Exclude<IngestRequest["message"], { case: "batch" }>
    | { case: "batch"; value: ReceivedBatch }
    | { case: "encodedBatch"; value: Uint8Array };
}

/** A batch that came as JSON. */
export interface ReceivedBatch {
  seq: bigint;
  rows: readonly (EmbeddingInput | UnreadableRow)[];
}

/** Stands in a batch for a row that could not be read, with the error to report for the row. */
export class UnreadableRow {
  readonly error: ConnectError;

  constructor(error: ConnectError) {
    this.error = error;
  }
}
