import pg from "pg";
import { placeTables, tableNames } from "../postgres/tables.ts";
import { findingsOr, formatBytes, ok, type Finding, type Subject } from "./finding.ts";
import { withOurs } from "./relations.ts";
import { sampleOf } from "./sample.ts";

/** Maximum number of stores listed per check. */
const STORES_MAX = 20;

interface Waiting {
  id: string;
  index_state: string;
  last_error: string | null;
  attempts: number;
  due_seconds: number | null;
}

/** A store that has been due for longer than this is a warning. */
const WAIT_MAX_SECONDS = 3_600;

/** Checks for stores that wait for an index, failed to get one, or need one that nobody builds. */
export async function checkPromotions({ client, database, settings }: Subject): Promise<Finding[]> {
  const { vectorStores, indexes } = database.tables;
  const { rows } = await client.query<Waiting>(
    `select store.id, store.index_state, plan.last_error, coalesce(plan.attempts, 0) as attempts,
       extract(epoch from now() - plan.due_since)::float8 as due_seconds
     from ${vectorStores} as store left join ${indexes} as plan on plan.vector_store_id = store.id
     where store.index_state in ('waiting', 'moving', 'building', 'failed')
     order by store.index_state = 'failed' desc, plan.due_since limit ${STORES_MAX}`,
  );
  const findings = rows.flatMap((store) => explainWaiting(store, settings.isWorking));
  if (!settings.isWorking && settings.thresholdBytes > 0) {
    const { rows: large } = await client.query<{ count: number; bytes: number | null }>(
      `select count(*)::int as count, max(embedding_count * dimensions * 4)::float8 as bytes from ${vectorStores}
       where own_table is null and index_policy = 'auto' and embedding_count * dimensions * 4 >= $1`,
      [settings.thresholdBytes],
    );
    const { count = 0, bytes = 0 } = large[0] ?? {};
    if (count > 0) {
      const message = `${count} stores are too large for exact search, the largest with ${formatBytes(bytes ?? 0)} of vectors, and this service builds no indexes.`;
      const remedy = "Set INDEX_WORKER=auto, here or in another process of the service.";
      findings.push({ severity: "notice", message, remedy });
    }
  }
  return findingsOr(findings, "No store waits for an index.");
}

function explainWaiting(store: Waiting, isWorking: boolean): Finding[] {
  const { id, index_state: state, last_error: error, attempts, due_seconds: seconds } = store;
  if (state === "failed" || error !== null) {
    const message = `Store ${id} has no index: ${error ?? "the build failed"} (${attempts} attempts). Searches in it are exact and slow.`;
    return [
      {
        severity: "warning",
        message,
        remedy: "Fix the cause; the build is retried automatically.",
        storeId: id,
      },
    ];
  }
  if ((seconds ?? 0) < WAIT_MAX_SECONDS) {
    return [{ severity: "notice", message: `Store ${id} is ${state} for its index.`, storeId: id }];
  }
  const message = `Store ${id} has been ${state} for its index for ${Math.round((seconds ?? 0) / 60)} minutes.`;
  const remedy = isWorking
    ? "Check the log for errors of the index worker, for example that its connection is refused."
    : "Set INDEX_WORKER=auto, here or in another process of the service.";
  return [{ severity: "warning", message, remedy, storeId: id }];
}

/** Checks that every own table exists, and that every such table belongs to a store. */
export async function checkOwnTables({ client, database }: Subject): Promise<Finding[]> {
  const { tables } = database;
  const { rows: orphans } = await client.query<{ name: string; bytes: number }>(
    `${withOurs(database)} select oid::regclass::text as name, pg_total_relation_size(oid)::float8 as bytes from ours
     where not (relname = any($1))
       and relname not in (select own_table from ${tables.vectorStores} where own_table is not null)
       and relname not in (select own_table from ${tables.indexes} where own_table is not null)
     order by 1`,
    [tableNames(tables)],
  );
  const { rows: lost } = await client.query<{ id: string; own_table: string }>(
    `select id, own_table from ${tables.vectorStores}
     where own_table is not null and to_regclass(quote_ident(own_table)) is null order by id limit ${STORES_MAX}`,
  );
  const findings = [
    ...lost.map(({ id, own_table: name }): Finding => {
      const message = `The table ${name} of store ${id} is gone, and its rows with it.`;
      return {
        severity: "error",
        message,
        remedy: "Restore it from a backup, or delete the store.",
        storeId: id,
      };
    }),
    ...orphans.map(({ name, bytes }): Finding => {
      const message = `The table ${name} (${formatBytes(bytes)}) belongs to no store.`;
      return { severity: "warning", message, remedy: `drop table ${name};` };
    }),
  ];
  return findingsOr(findings, "Every table of a large store has its store.");
}

/** Sample of `checkCounts`: number of stores, and maximum rows of a store. */
const SAMPLE_STORES = 20;
const SAMPLE_ROWS_MAX = 10_000;

interface Counted {
  id: string;
  own_table: string | null;
  embedding_count: string;
}

/** Compares the counters of a random sample of small stores with their rows. */
export async function checkCounts({ client, database }: Subject): Promise<Finding[]> {
  const { tables } = database;
  const { rows: stores } = await client.query<Counted>(
    `select id, own_table, embedding_count from ${sampleOf(tables.vectorStores)}
     where embedding_count <= ${SAMPLE_ROWS_MAX} order by random() limit ${SAMPLE_STORES}`,
  );
  const findings: Finding[] = [];
  for (const store of stores) {
    const { embeddings, vectorStoreId } = placeTables(tables, store);
    const { rows } = await client.query<{ count: string }>(
      `select count(*) from only ${embeddings} where ${vectorStoreId} = $1`,
      [store.id],
    );
    const count = rows[0]?.count;
    if (count === store.embedding_count) continue;
    findings.push({
      severity: "error",
      message: `The counter of store ${store.id} says ${store.embedding_count} embeddings, but the store has ${count}.`,
      remedy: `update ${tables.vectorStores} set embedding_count = ${count} where id = ${pg.escapeLiteral(store.id)}; and report how the counter came to be wrong.`,
      storeId: store.id,
    });
  }
  return findingsOr(findings, `The counters of ${stores.length} stores, drawn at random, match their rows.`);
}

/** A file that no worker has claimed for longer than this is stuck. */
const FILE_WAIT_MAX_MINUTES = 10;

/** Checks that attached files are claimed by workers soon after they are due. */
export async function checkFiles({ client, database }: Subject): Promise<Finding[]> {
  const due = "case when due_at = 'infinity' then replacement_due_at else due_at end";
  const { rows } = await client.query<{ count: number; minutes: number | null }>(
    `select count(*)::int as count, extract(epoch from now() - min(${due}))::float8 / 60 as minutes
     from ${database.tables.vectorStoreFiles}
     where status = 'in_progress' and ${due} < now() - interval '${FILE_WAIT_MAX_MINUTES} minutes'`,
  );
  const { count = 0, minutes } = rows[0] ?? {};
  if (count === 0) return ok("No file waits for a worker.");
  const message = `${count} files wait to be read into their stores, one for ${Math.round(minutes ?? 0)} minutes.`;
  const remedy =
    "Check the service's log for why its workers do not process them, or start more processes of the service.";
  return [{ severity: "warning", message, remedy }];
}
