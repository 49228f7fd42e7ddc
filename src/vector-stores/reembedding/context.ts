import type pg from "pg";
import { failedPrecondition, unimplemented } from "../../errors.ts";
import type { BuildOptions } from "../../indexes/build.ts";
import type { Embedder, Embeddings } from "../../models/embedder.ts";
import { isDistributed } from "../../postgres/citus/cluster.ts";
import type { Client, Database } from "../../postgres/database.ts";
import { transaction } from "../../postgres/transaction.ts";
import { projectOf } from "../../store-id.ts";
import { lockJob, type DueJob, type Job } from "./jobs.ts";

/** What a process needs to work on jobs. */
export interface ReembeddingOptions extends BuildOptions {
  /** Text search configuration of stores that name none. */
  language: string;
}

/** The resources of the work on a job. */
export interface JobContext {
  database: Database;
  /** A pool of one connection, whose session holds the lock of the job: no statement outlives it. */
  pool: pg.Pool;
  embedder: Embedder;
  options: ReembeddingOptions;
  signal: AbortSignal;
}

/** The job was cancelled, or its store deleted. */
export class JobEnded extends Error {}

/**
 * Runs a transaction under the job's locks (`lockJob`), and those that `open` takes before. Throws JobEnded, and UNIMPLEMENTED when
 * the store was moved to a worker of a Citus cluster: the coordinator does not know the system column `xmin` of its rows.
 */
export async function withJob<T>(
  { database, pool, signal }: JobContext,
  job: DueJob,
  work: (client: Client, job: Job) => Promise<T>,
  open: (client: Client) => Promise<void> = async () => {},
): Promise<T> {
  return transaction(
    pool,
    async (client) => {
      await open(client);
      const locked = await lockJob(client, database.tables, job);
      if (locked === undefined) throw new JobEnded("The re-embedding has ended.");
      // In the last phase the store's table is the new one.
      if (locked.phase !== "cleaning" && (await isDistributed(client, database, locked.source_table)))
        throw unimplemented(
          "The store's table is on a worker of the Citus cluster, where its changes cannot be followed.",
        );
      return work(client, locked);
    },
    signal,
  );
}

/**
 * Embeds texts with the new model, for the store's project. `isAdmitted`: see `Payer`. Throws DIMENSION_MISMATCH when the vectors
 * have other dimensions than those before.
 */
export async function embedTexts(
  { embedder, signal }: Pick<JobContext, "embedder" | "signal">,
  job: Job,
  texts: readonly string[],
  isAdmitted = false,
): Promise<Embeddings> {
  const payer = { project: projectOf(job.vector_store_id), keyId: "", isAdmitted };
  const embeddings = await embedder.embed(texts, signal, "unbounded", payer);
  const expected = job.dimensions ?? embeddings.vectors[0]?.length;
  const other = embeddings.vectors.find(({ length }) => length !== expected);
  if (other === undefined) return embeddings;
  throw failedPrecondition(
    "DIMENSION_MISMATCH",
    `The embedding model '${job.model}' returned vectors of ${expected} and of ${other.length} dimensions.`,
  );
}
