import type { ConnectError } from "@connectrpc/connect";
import type { EmbeddingInput } from "../../gen/pgquiver/v1/embeddings_pb.ts";
import type { IngestRequest } from "../../gen/pgquiver/v1/ingest_pb.ts";

/**
 * A message of an ingest stream as the implementation receives it. It differs from the proto file in two
 * cases: a batch in binary protobuf is still encoded, and a batch from NDJSON may contain rows that could not
 * be parsed.
 */
export interface ReceivedIngest {
  message:
    | Exclude<IngestRequest["message"], { case: "batch" }>
    | { case: "batch"; value: ReceivedBatch }
    | { case: "encodedBatch"; value: Uint8Array };
}

/** A batch decoded from JSON. */
export interface ReceivedBatch {
  seq: bigint;
  rows: readonly (EmbeddingInput | UnreadableRow)[];
}

/** Takes the place of a row that could not be parsed, and holds the error to report for the row. */
export class UnreadableRow {
  readonly error: ConnectError;

  constructor(error: ConnectError) {
    this.error = error;
  }
}
