import { changeBriefly, drop, inherit } from "../../indexes/inherit.ts";
import type { VectorIndex } from "../../indexes/plan.ts";
import { findColumns } from "../../indexes/table.ts";
import { lockExclusive, placementLock } from "../../postgres/advisory.ts";
import { isDistributed, requireTwoPhase } from "../../postgres/citus/cluster.ts";
import type { Client } from "../../postgres/database.ts";
import { placeTables, type Tables } from "../../postgres/tables.ts";
import { deleteWords } from "../../storage/words.ts";
import { projectOf } from "../../store-id.ts";
import { beginAgain, catchUp } from "./copy.ts";
import { embedTexts, withJob, type JobContext } from "./context.ts";
import { designSecond, planSecond } from "./finish.ts";
import { countEmbedded, updateJob, type Job } from "./jobs.ts";
import { applyOthers, checkCount, findPending, findPlaces, writeVectors } from "./rows.ts";

/** Lock timeout of the switch: the store's writers queue behind it. */
const SWITCH_WAIT_MS = 1_000;
/** Texts that are embedded while the store's writers wait, and for how long: searches never wait. */
const LAST_TEXTS_MAX = 32;
const LAST_TEXTS_MS = 1_000;
/** Lock timeout for SHARE UPDATE EXCLUSIVE on the shared table: longer than an autovacuum keeps it (own-table.ts). */
const CLEAN_WAIT_MS = 5_000;

/** What came of a try: "busy" = to be tried again later, "outdated" = the second table lacks a column of the shared one. */
type Outcome = "switched" | "busy" | "outdated";

/**
 * Applies the last changes and makes the second table the store's, with the new model, by one UPDATE of the store's row under
 * its exclusive placement lock, for which its writers wait. False when that is to be tried again: texts come faster than
 * they are embedded, or the store is being moved to an own table.
 */
export async function switchStore(context: JobContext, job: Job): Promise<boolean> {
  await catchUp(context, job);
  const { database, embedder } = context;
  const { tables } = database;
  const plan = await planSecond(context, job);
  const index = plan === undefined ? undefined : designSecond(plan);
  // Before the transaction, which may hold the only connection.
  const refusal = await embedder.refuse?.({ project: projectOf(job.vector_store_id), keyId: "" });
  const outcome = await withJob(
    context,
    job,
    async (client, locked): Promise<Outcome> => {
      if (locked.plan_phase !== "shared" && locked.plan_phase !== "settled") return "busy";
      if (!(await isCurrent(client, tables, locked))) return "outdated";
      if (!(await followLast(context, client, locked, refusal))) return "busy";
      await requireTwoPhase(client, database);
      await switchRows(client, tables, locked, index);
      return "switched";
    },
    async (client) => {
      await client.query(`set local lock_timeout = ${SWITCH_WAIT_MS}`);
      await lockExclusive(client, tables, placementLock(job.vector_store_id));
    },
  );
  if (outcome === "outdated") await beginAgain(context, job);
  return outcome !== "busy";
}

/** Whether the second table has the columns of the shared one, to which an operator may have added some. */
async function isCurrent(client: Client, tables: Tables, job: Job): Promise<boolean> {
  const second = placeTables(tables, job).embeddings;
  return (await findColumns(client, tables.embeddings)) === (await findColumns(client, second));
}

/** Applies the changes since the last round, with the few texts that must be embedded for it; false: there are too many. */
async function followLast(
  context: JobContext,
  client: Client,
  job: Job,
  refusal: Error | undefined,
): Promise<boolean> {
  const { tables } = context.database;
  const places = await findPlaces(client, tables, job);
  const page = { after: null, rowsMax: LAST_TEXTS_MAX + 1 };
  const pending = await findPending(client, tables, job, places, page);
  if (pending.length > LAST_TEXTS_MAX) return false;
  if (pending.length > 0) {
    if (refusal !== undefined) throw refusal;
    const timeout = AbortSignal.timeout(LAST_TEXTS_MS);
    const signal = AbortSignal.any([context.signal, timeout]);
    const texts = pending.map(({ content }) => content);
    const made = await embedTexts({ ...context, signal }, job, texts, true).catch((error: unknown) => {
      if (timeout.aborted && !context.signal.aborted) return undefined;
      throw error;
    });
    if (made === undefined) return false;
    await writeVectors(client, tables, job, places, pending, made.vectors);
    await countEmbedded(client, tables, job, { rows: 0, tokens: made.tokens });
  }
  await applyOthers(client, tables, job, places);
  await checkCount(client, tables, job, places);
  return true;
}

/** Makes the second table the store's, in the catalog of indexes too. */
async function switchRows(
  client: Client,
  tables: Tables,
  job: Job,
  index: VectorIndex | undefined,
): Promise<void> {
  const { vector_store_id: storeId, own_table: second, source_table: former, dimensions, model } = job;
  const { indexes } = tables;
  await client.query(
    `update ${tables.vectorStores} set own_table = $2::text, dimensions = $3, embedding_model = $4, index_precision = $5::text,
       index_state = case when $5::text is null then 'none' else 'ready' end,
       precision = case when $5::text is null or $5 = precision then precision end,
       has_words = exists (select from pg_attribute where attrelid = to_regclass(quote_ident($2)) and attname = 'content_tsvector'),
       ef_search = null, filtered_ef_search = null, row_changes = row_changes + 1
     where id = $1`,
    [storeId, second, dimensions, dimensions === null ? null : model, index?.precision ?? null],
  );
  await client.query(`delete from ${indexes} where own_table = $1 and vector_store_id is null`, [second]);
  // Not due until the former table is dropped: were the new one made a child of the shared one before, SQL over that would see
  // rows twice.
  await client.query(
    `update ${indexes} set own_table = $2, table_oid = to_regclass(quote_ident($2))::oid, phase = 'cleaning',
       current_index = $3::jsonb, next_index = null, rebuild = false, due = false, retry_at = null, attempts = 0, last_error = null
     where vector_store_id = $1`,
    [storeId, second, index === undefined ? null : JSON.stringify({ ...index, built_at: new Date() })],
  );
  if (former !== null)
    await client.query(
      `insert into ${indexes} (vector_store_id, own_table, due, phase) values (null, $1, false, 'settled')`,
      [former],
    );
  await updateJob(client, tables, job, { phase: "cleaning", former_table: former });
}

/**
 * Removes the rows with the old vectors, or drops their table, and makes the new table a child of the shared one, in one
 * transaction: SQL over the shared table sees every row once. Then the job is completed.
 */
export async function removeFormer(context: JobContext, job: Job): Promise<void> {
  const { database, signal } = context;
  const { tables } = database;
  await withJob(
    context,
    job,
    async (client, locked) => {
      const { vector_store_id: storeId, own_table: second, former_table: former } = locked;
      const changes: string[] = [];
      if (former !== null) {
        changes.push(drop(placeTables(tables, { own_table: former }).embeddings));
        await client.query(`delete from ${tables.indexes} where own_table = $1 and vector_store_id is null`, [
          former,
        ]);
      }
      // The index worker may have done the rest, after a change of the index's settings.
      if (locked.plan_phase === "cleaning") {
        await client.query(`delete from only ${tables.embeddings} where ${tables.vectorStoreId} = $1`, [
          storeId,
        ]);
        await deleteWords(client, tables, storeId);
        if (!(await isDistributed(client, database, second)))
          changes.push(inherit(placeTables(tables, { own_table: second }).embeddings, tables));
      }
      await changeBriefly(client, changes, signal);
      await client.query(
        `update ${tables.indexes} set phase = 'settled', due = true, due_since = now() where vector_store_id = $1`,
        [storeId],
      );
      await client.query(
        `update ${tables.reembeddings} set status = 'completed', completed_at = now(), last_error = null
         where vector_store_id = $1`,
        [storeId],
      );
    },
    async (client) => {
      await client.query(`set local lock_timeout = ${CLEAN_WAIT_MS}`);
      await client.query(`lock table only ${tables.embeddings} in share update exclusive mode`);
    },
  );
}
