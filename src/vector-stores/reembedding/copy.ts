import { spreadTable } from "../../postgres/citus/cluster.ts";
import { makeTable, SNAPSHOT_XMIN } from "../../indexes/table.ts";
import { cancellable } from "../../postgres/transaction.ts";
import { listEmbeddings } from "../../storage/embeddings.ts";
import { readPlaced } from "../../storage/placement.ts";
import { embedTexts, withJob, type JobContext } from "./context.ts";
import { countEmbedded, releaseTables, updateJob, type Job } from "./jobs.ts";
import { applyOthers, findPending, findPlaces, writeVectors } from "./rows.ts";

/** Rows of one page, and bytes of their texts and metadata. A page is embedded by some requests at the same time. */
const PAGE_ROWS = 1_024;
const PAGE_BYTES = 1024 * 1024;
/** Rows of one page of changes, whose texts are not bounded together. */
const CHANGES_ROWS = 32;
/** Rounds of `catchUp` end when one has embedded at most so many texts, or after so many rounds. */
const ROUND_TEXTS_MIN = 32;
const ROUNDS_MAX = 20;

/** Creates the second table, empty, and registers it in the catalog of indexes, so that it is never lost. */
export async function makeSecondTable(context: JobContext, job: Job): Promise<void> {
  const { database, pool, options, signal } = context;
  const { tables } = database;
  const name = await withJob(context, job, async (client, locked) => {
    const { rows: settings } = await client.query<{ language: string | null; keyword_index: boolean }>(
      `select store.language, coalesce(plan.keyword_index, true) as keyword_index
       from ${tables.vectorStores} as store left join ${tables.indexes} as plan on plan.vector_store_id = store.id
       where store.id = $1`,
      [job.vector_store_id],
    );
    const { language, keyword_index: hasWords = true } = settings[0] ?? {};
    const name = await makeTable(client, database, job.vector_store_id, {
      language: language ?? options.language,
      hasWords,
    });
    await client.query(
      `insert into ${tables.indexes} (vector_store_id, own_table, due, phase) values (null, $1, false, 'settled')`,
      [name],
    );
    const { rows } = await client.query<{ xmin: string }>(SNAPSHOT_XMIN);
    await updateJob(client, tables, locked, {
      own_table: name,
      copied_through: null,
      changed_since: rows[0]?.xmin ?? null,
    });
    return name;
  });
  // As in the move to an own table: what keeps Citus from moving the empty table must not keep the job from going on.
  if (database.citus?.distributes === true)
    await cancellable(pool, signal, (client) => spreadTable(client, name)).catch(() => {});
}

/** Gives up the second table, and begins again: it lacks a column, or the database was restored from a dump. */
export async function beginAgain(context: JobContext, job: Job): Promise<void> {
  const { tables } = context.database;
  await withJob(context, job, async (client, locked) => {
    await releaseTables(client, tables, [locked.own_table]);
    await updateJob(client, tables, locked, {
      phase: "copying",
      own_table: null,
      copied_through: null,
      changed_since: null,
      rows_embedded: 0,
    });
  });
}

/**
 * Copies the next page of rows, by id, with vectors of the new model. The page's last id is committed with the page, so a job
 * that was interrupted goes on there.
 */
export async function copyPage(context: JobContext, job: Job): Promise<void> {
  const { database, pool, signal } = context;
  const { tables } = database;
  const { vector_store_id: storeId } = job;
  const page = await readPlaced(
    pool,
    tables,
    { id: storeId, own_table: job.source_table },
    (client, placed) =>
      listEmbeddings(client, placed, storeId, {
        rowsMax: PAGE_ROWS,
        bytesMax: PAGE_BYTES,
        descending: false,
        backward: false,
        includeEmbedding: false,
        ...(job.copied_through !== null && { after: job.copied_through }),
      }),
    signal,
  );
  const last = page.at(-1);
  if (last === undefined) {
    await withJob(context, job, (client, locked) => updateJob(client, tables, locked, { phase: "indexing" }));
    return;
  }
  const { vectors, tokens } = await embedTexts(
    context,
    job,
    page.map(({ content }) => content),
  );
  await withJob(context, job, async (client, locked) => {
    await writeVectors(client, tables, locked, await findPlaces(client, tables, locked), page, vectors);
    await updateJob(client, tables, locked, {
      copied_through: last.id,
      dimensions: (vectors[0] as Float32Array).length,
    });
    await countEmbedded(client, tables, locked, { rows: page.length, tokens });
  });
}

/**
 * Applies to the second table what was committed since the last look, round by round, until a round is small. Changed rows are
 * found by their system column `xmin`, as in the move to an own table (src/indexes/own-table.ts). Texts are embedded
 * outside of all locks.
 */
export async function catchUp(context: JobContext, job: Job): Promise<void> {
  for (let round = 0, texts = Infinity; round < ROUNDS_MAX && texts > ROUND_TEXTS_MIN; round++)
    texts = await followRound(context, job);
}

async function followRound(context: JobContext, begun: Job): Promise<number> {
  const { database, pool, signal } = context;
  const { tables } = database;
  // Read before the rows: what their snapshots do not see was written by a transaction with at least this id.
  const horizon = await cancellable(pool, signal, (client) => client.query<{ xmin: string }>(SNAPSHOT_XMIN));
  let texts = 0;
  for (let after: string | null = null; ;) {
    const { job, pending } = await withJob(context, begun, async (client, locked) => {
      const places = await findPlaces(client, tables, locked);
      const page = { after, rowsMax: CHANGES_ROWS };
      return { job: locked, pending: await findPending(client, tables, locked, places, page) };
    });
    if (pending.length === 0) break;
    const { vectors, tokens } = await embedTexts(
      context,
      job,
      pending.map(({ content }) => content),
    );
    await withJob(context, begun, async (client, locked) => {
      const places = await findPlaces(client, tables, locked);
      await writeVectors(client, tables, locked, places, pending, vectors);
      await updateJob(client, tables, locked, { dimensions: (vectors[0] as Float32Array).length });
      await countEmbedded(client, tables, locked, { rows: 0, tokens });
    });
    texts += pending.length;
    after = pending.at(-1)?.id ?? null;
  }
  await withJob(context, begun, async (client, locked) => {
    await applyOthers(client, tables, locked, await findPlaces(client, tables, locked));
    await updateJob(client, tables, locked, { changed_since: horizon.rows[0]?.xmin ?? null });
  });
  return texts;
}
