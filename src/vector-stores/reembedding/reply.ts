import { create } from "@bufbuild/protobuf";
import {
  ReembeddingPhase,
  ReembeddingStatus,
  VectorStoreReembeddingSchema,
  type VectorStoreReembedding,
} from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { toSeconds } from "../../api/time.ts";
import { secondsLeft, type Pace } from "../../api/watching/pace.ts";
import { COMPARED_RESULTS } from "./finish.ts";
import type { Job } from "./jobs.ts";

const STATUSES = {
  in_progress: ReembeddingStatus.IN_PROGRESS,
  completed: ReembeddingStatus.COMPLETED,
  failed: ReembeddingStatus.FAILED,
  cancelled: ReembeddingStatus.CANCELLED,
} as const;

const PHASES = {
  copying: ReembeddingPhase.COPYING,
  indexing: ReembeddingPhase.INDEXING,
  switching: ReembeddingPhase.SWITCHING,
  cleaning: ReembeddingPhase.CLEANING,
} as const;

/** Converts a job to the API's message. */
export function toReembedding(job: Job): VectorStoreReembedding {
  const {
    dimensions,
    former_model: formerModel,
    former_dimensions: formerDimensions,
    compared,
    overlap,
  } = job;
  return create(VectorStoreReembeddingSchema, {
    object: "vector_store.reembedding",
    vectorStoreId: job.vector_store_id,
    status: STATUSES[job.status],
    ...(job.status === "in_progress" && { phase: PHASES[job.phase] }),
    model: job.model,
    ...(dimensions !== null && { dimensions }),
    ...(formerModel !== null && { formerModel }),
    ...(formerDimensions !== null && { formerDimensions }),
    rows: BigInt(job.rows),
    rowsEmbedded: BigInt(job.rows_embedded),
    tokens: BigInt(job.tokens),
    ...(compared !== null &&
      overlap !== null && { comparison: { queries: compared, results: COMPARED_RESULTS, overlap } }),
    createdAt: toSeconds(job.created_at),
    ...(job.completed_at !== null && { completedAt: toSeconds(job.completed_at) }),
    ...(job.last_error !== null && { lastError: job.last_error }),
  });
}

/** Adds to a re-embedding how fast rows are embedded, and how long that will take. */
export function measureReembedding(message: VectorStoreReembedding, pace: Pace): VectorStoreReembedding {
  if (message.phase !== ReembeddingPhase.COPYING) return message;
  const done = Number(message.rowsEmbedded);
  const perSecond = pace.look(done);
  const left = secondsLeft(Number(message.rows) - done, perSecond);
  if (perSecond !== undefined) message.rowsPerSecond = perSecond;
  if (left !== undefined) message.secondsLeft = left;
  return message;
}
