import type { Client, Queryable } from "../../postgres/database.ts";
import type { Tables } from "../../postgres/tables.ts";
import type { Plan } from "../../indexes/plan.ts";

/** A job, with what decides its next step of the store and of the catalog of indexes. Bigints are texts. */
export interface Job {
  id: string;
  vector_store_id: string;
  status: "in_progress" | "completed" | "failed" | "cancelled";
  phase: "copying" | "indexing" | "switching" | "cleaning";
  model: string;
  dimensions: number | null;
  former_model: string | null;
  former_dimensions: number | null;
  own_table: string | null;
  former_table: string | null;
  copied_through: string | null;
  changed_since: string | null;
  rows_embedded: string;
  tokens: string;
  compared: number | null;
  overlap: number | null;
  created_at: Date;
  completed_at: Date | null;
  attempts: number;
  last_error: string | null;
  /** Whether `changed_since` does not tell any more which rows have changed: see `Plan`. */
  is_stale: boolean;
  /** The table that holds the store's rows, and how many there are. */
  source_table: string | null;
  rows: string;
  plan_number: string | null;
  plan_phase: Plan["phase"] | null;
}

/** Half of the distance from which on transaction ids compare in the wrong order: see src/indexes/plan.ts. */
const TRANSACTIONS_MAX = 1_000_000_000;

function selectJob({ reembeddings, vectorStores, indexes }: Tables): string {
  return `select job.id, job.vector_store_id, job.status, job.phase, job.model, job.dimensions, job.former_model,
      job.former_dimensions, job.own_table, job.former_table, job.copied_through, job.changed_since::text as changed_since,
      job.rows_embedded, job.tokens, job.compared, job.overlap, job.created_at, job.completed_at, job.attempts, job.last_error,
      coalesce(pg_snapshot_xmin(pg_current_snapshot())::text::bigint - job.changed_since::text::bigint not between 0 and ${TRANSACTIONS_MAX}, false) as is_stale,
      store.own_table as source_table, store.embedding_count as rows, plan.number as plan_number, plan.phase as plan_phase
    from ${reembeddings} as job
    join ${vectorStores} as store on store.id = job.vector_store_id and store.created_at = job.store_created_at
    left join ${indexes} as plan on plan.vector_store_id = job.vector_store_id`;
}

/** Reads the last job of a store; undefined when there was none. */
export async function findJob(client: Queryable, tables: Tables, storeId: string): Promise<Job | undefined> {
  const { rows } = await client.query<Job>(`${selectJob(tables)} where job.vector_store_id = $1`, [storeId]);
  return rows[0];
}

/**
 * Locks a job in progress until the transaction ends, so that it is not cancelled meanwhile, and its store, so that it is
 * neither deleted nor moved; undefined when the job has ended or its store is gone. Lock order, here and everywhere: the
 * catalog's row, the store's, the job's.
 */
export async function lockJob(
  client: Client,
  tables: Tables,
  { id, vector_store_id: storeId }: Pick<Job, "id" | "vector_store_id">,
): Promise<Job | undefined> {
  await client.query(`select 1 from ${tables.indexes} where vector_store_id = $1 for update`, [storeId]);
  await client.query(`select 1 from ${tables.vectorStores} where id = $1 for key share`, [storeId]);
  await client.query(`select 1 from ${tables.reembeddings} where vector_store_id = $1 for update`, [storeId]);
  const job = await findJob(client, tables, storeId);
  return job?.id === id && job.status === "in_progress" ? job : undefined;
}

/** Makes a job for a store, in place of one that has ended, and returns it; one that is in progress is left as it is. */
export async function insertJob(
  client: Client,
  tables: Tables,
  storeId: string,
  { model, dimensions }: { model: string; dimensions: number | null },
): Promise<Job | undefined> {
  await client.query(
    `delete from ${tables.reembeddings} where vector_store_id = $1 and status <> 'in_progress'`,
    [storeId],
  );
  await client.query(
    `insert into ${tables.reembeddings} (vector_store_id, store_created_at, model, dimensions, former_model, former_dimensions)
     select id, created_at, $2, $3, embedding_model, dimensions from ${tables.vectorStores} where id = $1
     on conflict do nothing`,
    [storeId, model, dimensions],
  );
  return findJob(client, tables, storeId);
}

/** Columns of a job that `updateJob` sets. */
type Change = Partial<
  Pick<
    Job,
    | "phase"
    | "dimensions"
    | "own_table"
    | "former_table"
    | "copied_through"
    | "changed_since"
    | "compared"
    | "overlap"
  > & { rows_embedded: number }
>;

/** Sets columns of a job, and forgets its last failure. */
export async function updateJob(
  client: Client,
  { reembeddings }: Tables,
  { id, vector_store_id: storeId }: Job,
  change: Change,
): Promise<void> {
  const columns = Object.keys(change).map((column, index) => `${column} = $${index + 3}`);
  await client.query(
    `update ${reembeddings} set ${[...columns, "attempts = 0", "last_error = null", "retry_at = null"].join(", ")}
     where vector_store_id = $1 and id = $2`,
    [storeId, id, ...Object.values(change)],
  );
}

/** Counts rows that were embedded, and the tokens that they took. */
export async function countEmbedded(
  client: Client,
  { reembeddings }: Tables,
  { id, vector_store_id: storeId }: Job,
  counts: { rows: number; tokens: number },
): Promise<void> {
  await client.query(
    `update ${reembeddings} set rows_embedded = rows_embedded + $3, tokens = tokens + $4 where vector_store_id = $1 and id = $2`,
    [storeId, id, counts.rows, counts.tokens],
  );
}

/**
 * Ends a job in progress that has not switched its store, and leaves its table to the index worker to be dropped. False when
 * there is none.
 */
export async function endJob(
  client: Client,
  tables: Tables,
  { id, vector_store_id: storeId }: Job,
  { status, error }: { status: "failed" | "cancelled"; error?: string },
): Promise<boolean> {
  const { rows } = await client.query<{ own_table: string | null }>(
    `update ${tables.reembeddings} set status = $3, completed_at = now(), last_error = $4
     where vector_store_id = $1 and id = $2 and status = 'in_progress' and phase <> 'cleaning' returning own_table`,
    [storeId, id, status, error ?? null],
  );
  const [ended] = rows;
  if (ended === undefined) return false;
  await releaseTables(client, tables, [ended.own_table]);
  return true;
}

/** Leaves tables without a store to the index worker to be dropped. */
export async function releaseTables(
  client: Client,
  { indexes }: Tables,
  names: readonly (string | null)[],
): Promise<void> {
  await client.query(
    `update ${indexes} set due = true, due_since = now(), retry_at = null
     where own_table = any($1::text[]) and vector_store_id is null`,
    [names],
  );
}

/** Notes that a job in progress is to be tried again after `delayMs`, and why; without an error nothing has failed. */
export async function postponeJob(
  client: Client,
  { reembeddings }: Tables,
  { id, vector_store_id: storeId }: Pick<Job, "id" | "vector_store_id">,
  delayMs: number,
  error?: string,
): Promise<void> {
  await client.query(
    `update ${reembeddings} set retry_at = now() + $3 * interval '1 millisecond', last_error = coalesce($4, last_error),
       attempts = attempts + case when $4::text is null then 0 else 1 end
     where vector_store_id = $1 and id = $2 and status = 'in_progress'`,
    [storeId, id, delayMs, error ?? null],
  );
}

/** A job that is due. */
export type DueJob = Pick<Job, "id" | "vector_store_id">;

/** Finds the jobs of a model that are due, the oldest first. */
export async function findDueJobs(
  client: Queryable,
  { reembeddings }: Tables,
  { model, dimensions }: { model: string; dimensions: number | null },
): Promise<DueJob[]> {
  const { rows } = await client.query<DueJob>({
    name: "find_reembeddings",
    text: `select id, vector_store_id from ${reembeddings}
      where status = 'in_progress' and coalesce(retry_at <= now(), true)
        and (phase = 'cleaning' or model = $1 and coalesce(dimensions = $2::int, true))
      order by created_at limit 100`,
    values: [model, dimensions],
  });
  return rows;
}

/**
 * Removes the jobs of stores that were deleted by a version that does not know them, and leaves their tables to the index
 * worker.
 */
export async function removeOrphans(client: Client, tables: Tables): Promise<void> {
  const { rows } = await client.query<{ own_table: string | null; former_table: string | null }>(
    `delete from ${tables.reembeddings} as job where status = 'in_progress' and not exists (
       select from ${tables.vectorStores} as store
       where store.id = job.vector_store_id and store.created_at = job.store_created_at)
     returning own_table, former_table`,
  );
  if (rows.length === 0) return;
  const names = rows.flatMap(({ own_table, former_table }) => [own_table, former_table]);
  await releaseTables(client, tables, names);
}
