import type { ServiceImpl } from "@connectrpc/connect";
import {
  VectorStoreReembeddingSchema,
  type VectorStoreService,
} from "../../../gen/pgquiver/v1/vector_stores_pb.ts";
import { Pace } from "../../api/watching/pace.ts";
import type { Watches } from "../../api/watching/watches.ts";
import { conflict, failedPrecondition, notFound, unimplemented, vectorStoreNotFound } from "../../errors.ts";
import { lockRequest } from "../../indexes/request.ts";
import type { Embedder } from "../../models/embedder.ts";
import { isDistributed } from "../../postgres/citus/cluster.ts";
import type { Database } from "../../postgres/database.ts";
import { transaction } from "../../postgres/transaction.ts";
import { requireActiveStore, requireStore } from "../../storage/require.ts";
import { localId } from "../../store-id.ts";
import { endJob, findJob, insertJob, type Job } from "./jobs.ts";
import { measureReembedding, toReembedding } from "./reply.ts";

/** What the RPCs that re-embed stores need beside the database. */
export interface ReembeddingParts {
  embedder: Embedder;
  watches: Watches;
  /** Makes this process's worker look for jobs. */
  wake: () => void;
}

type Methods = Pick<
  ServiceImpl<typeof VectorStoreService>,
  | "reembedVectorStore"
  | "getVectorStoreReembedding"
  | "watchVectorStoreReembedding"
  | "cancelVectorStoreReembedding"
>;

/** Implements the RPCs of VectorStoreService that embed a store with another model. */
export function reembeddingMethods(
  database: Database,
  { embedder, watches, wake }: ReembeddingParts,
): Methods {
  const { pool, tables } = database;
  return {
    async reembedVectorStore({ vectorStoreId: storeId }) {
      await requireActiveStore(pool, tables, storeId);
      const job = await requestJob(database, embedder, storeId);
      wake();
      return toReembedding(job);
    },

    async getVectorStoreReembedding({ vectorStoreId }) {
      return toReembedding(await requireJob(database, vectorStoreId));
    },

    async *watchVectorStoreReembedding({ vectorStoreId }, context) {
      const pace = new Pace();
      const read = async () => {
        const job = await requireJob(database, vectorStoreId);
        const state = measureReembedding(toReembedding(job), pace);
        return { state, isFinal: job.status !== "in_progress" };
      };
      yield* watches.watch({ desc: VectorStoreReembeddingSchema, key: vectorStoreId, read }, context);
    },

    async cancelVectorStoreReembedding({ vectorStoreId }) {
      const job = await requireJob(database, vectorStoreId);
      await transaction(pool, (client) => endJob(client, tables, job, { status: "cancelled" }));
      return toReembedding(await requireJob(database, vectorStoreId));
    },
  };
}

async function requireJob({ pool, tables }: Database, storeId: string): Promise<Job> {
  await requireStore(pool, tables, storeId);
  const job = await findJob(pool, tables, storeId);
  if (job === undefined)
    throw notFound(`Vector store '${localId(storeId)}' was never embedded again.`, "vector_store_id");
  return job;
}

async function requestJob(database: Database, embedder: Embedder, storeId: string): Promise<Job> {
  const { pool, tables } = database;
  const { model } = embedder;
  const dimensions = embedder.dimensions ?? null;
  return transaction(pool, async (client) => {
    if ((await lockRequest(client, tables, storeId)) === undefined) throw vectorStoreNotFound(storeId);
    const present = await findJob(client, tables, storeId);
    if (present?.status === "in_progress") {
      if (
        present.model === model &&
        (present.dimensions ?? dimensions) === (dimensions ?? present.dimensions)
      )
        return present;
      throw failedPrecondition(
        "REEMBEDDING_IN_PROGRESS",
        `Vector store '${localId(storeId)}' is being embedded with model '${present.model}': cancel that first.`,
        "vector_store_id",
      );
    }
    const store = await requireActiveStore(client, tables, storeId);
    const hasDimensions = dimensions === null || store.dimensions === dimensions;
    if (store.embedding_model === model && hasDimensions)
      throw failedPrecondition(
        "MODEL_IN_USE",
        `Vector store '${localId(storeId)}' has vectors of model '${model}' already.`,
        "vector_store_id",
      );
    if (await isDistributed(client, database, store.own_table))
      throw unimplemented(
        `Vector store '${localId(storeId)}' has its table on a node of the Citus cluster, where a store cannot be embedded again: export it, and load its texts into a new store.`,
      );
    const job = await insertJob(client, tables, storeId, { model, dimensions });
    // Left by a deleted store of the same id, until a worker looks.
    if (job === undefined) throw conflict();
    return job;
  });
}
