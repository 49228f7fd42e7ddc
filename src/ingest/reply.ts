import { create, type JsonObject } from "@bufbuild/protobuf";
import {
  ExportedEmbeddingSchema,
  IngestState,
  IngestSummarySchema,
  ListIngestsResponseSchema,
  type ExportedEmbedding,
  type IngestSummary,
  type ListIngestsResponse,
} from "../../gen/pgquiver/v1/ingest_pb.ts";
import { secondsLeft, type Pace } from "../api/watching/pace.ts";
import { toSeconds } from "../api/time.ts";
import { decodeVector } from "../postgres/copy.ts";
import type { EmbeddingRow } from "../storage/embeddings.ts";
import type { GroupOutcome } from "./flight.ts";
import type { IngestRow } from "./ingests.ts";

/** Converts the result of a group to the event's message. */
export function toCommitted(outcome: GroupOutcome) {
  return {
    throughSeq: BigInt(outcome.throughSeq),
    rowsWritten: BigInt(outcome.rowsWritten),
    rowsSkipped: BigInt(outcome.rowsSkipped),
    rowsRejected: BigInt(outcome.rowsRejected),
    errors: outcome.errors.map(toRowError),
  };
}

function toRowError({ seq, ...fault }: IngestRow["errors"][number]) {
  return { $typeName: "pgquiver.v1.RowError" as const, seq: BigInt(seq), ...fault };
}

const STATES = {
  open: IngestState.OPEN,
  completed: IngestState.COMPLETED,
  aborted: IngestState.ABORTED,
} as const;

/** Converts an ingest's row to the API's message. */
export function toSummary(row: IngestRow): IngestSummary {
  return create(IngestSummarySchema, {
    object: "ingest",
    ingestId: row.ingest_id,
    vectorStoreId: row.vector_store_id,
    state: STATES[row.state],
    throughSeq: BigInt(row.through_seq),
    rowsWritten: BigInt(row.rows_written),
    rowsSkipped: BigInt(row.rows_skipped),
    rowsRejected: BigInt(row.rows_rejected),
    errors: row.errors.map(toRowError),
    createdAt: toSeconds(row.created_at),
    rowBytes: BigInt(row.row_bytes),
    ...(row.rows_announced !== null && { totalRows: BigInt(row.rows_announced) }),
  });
}

/** Converts a page of ingests; of `rows`, those beyond `limit` only show that more follow. */
export function toList(limit: number, rows: readonly IngestRow[]): ListIngestsResponse {
  const data = rows.slice(0, limit).map(toSummary);
  const [first, last] = [data[0], data.at(-1)];
  return create(ListIngestsResponseSchema, {
    object: "list",
    data,
    ...(first !== undefined && { firstId: first.ingestId }),
    ...(last !== undefined && { lastId: last.ingestId }),
    hasMore: rows.length > limit,
  });
}

/** Converts a row of a store to the API's message. */
export function toExported(row: EmbeddingRow): ExportedEmbedding {
  return create(ExportedEmbeddingSchema, {
    id: row.id,
    content: row.content,
    embedding: row.embedding === null ? new Uint8Array() : new Uint8Array(decodeVector(row.embedding).buffer),
    metadata: (row.metadata ?? {}) as JsonObject,
    createdAt: toSeconds(row.created_at),
  });
}

/** Adds to the state of an ingest the pace that was measured, and how long the rest takes at it. */
export function measureIngest(summary: IngestSummary, pace: Pace): IngestSummary {
  const rows = Number(summary.rowsWritten + summary.rowsSkipped + summary.rowsRejected);
  const perSecond = pace.look(rows);
  const left = summary.totalRows && secondsLeft(Number(summary.totalRows) - rows, perSecond);
  if (perSecond !== undefined) summary.rowsPerSecond = perSecond;
  if (typeof left === "number") summary.secondsLeft = left;
  return summary;
}
