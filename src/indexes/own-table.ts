import { isDistributed, requireTwoPhase, spreadTable } from "../postgres/citus/cluster.ts";
import { lockExclusive, placementLock } from "../postgres/advisory.ts";
import type { Client, Database } from "../postgres/database.ts";
import { placeTables, type Tables } from "../postgres/tables.ts";
import { cancellable, transaction } from "../postgres/transaction.ts";
import { deleteWords } from "../storage/words.ts";
import type { WorkContext } from "./context.ts";
import { changeBriefly, drop, inherit } from "./inherit.ts";
import { lockPlan, updatePlan, updateStoreIndex, type Plan } from "./plan.ts";
import { findColumns, finishTable, makeTable, SNAPSHOT_XMIN } from "./table.ts";

/**
 * Lock timeout of the switch to the own table. New writers of the store queue behind the waiting exclusive
 * lock, so the switch gives up after this time and is tried again later.
 */
const SWITCH_WAIT_MS = 1_000;
/**
 * Lock timeout for SHARE UPDATE EXCLUSIVE on the shared table. An autovacuum holds the same lock and is
 * cancelled by Postgres after `deadlock_timeout` (1 s), so the timeout must be longer.
 */
const CLEAN_WAIT_MS = 5_000;
/** Bounds of one transaction of the copy: estimated bytes, and rows. */
const BATCH_BYTES = 16 * 1024 * 1024;
const BATCH_ROWS_MAX = 10_000;
/**
 * Assumed bytes of a row besides its vector (text, metadata, timestamps): a guess, used only to size batches.
 */
const ROW_BYTES = 1_024;
/**
 * Catch-up before the switch repeats until a round copies no more than `ROUND_ROWS_MIN` changes, at most so
 * often.
 */
const ROUNDS_MAX = 10;
const ROUND_ROWS_MIN = 1_000;

/**
 * Creates the store's own table, empty, with the shared table's columns, indexes and grants, and, unless the store
 * wants none, a generated tsvector column for keyword search. `fallback` is the text search configuration of stores that
 * name none.
 */
export async function createTable(
  { database, pool, signal }: WorkContext,
  plan: Plan,
  fallback: string,
): Promise<void> {
  const { tables } = database;
  await transaction(
    pool,
    async (client) => {
      const locked = await lockPlan(client, tables, plan);
      if (locked === undefined) return;
      const language = locked.language ?? fallback;
      const hasWords = locked.keyword_index;
      const name = await makeTable(client, database, plan.vector_store_id ?? "", { language, hasWords });
      // The xmin horizon: transactions below it have ended, so the copy, which starts later, sees all they
      // committed. Rows written at or above it may be missing from the copy and are what catch-up looks for.
      const { rows } = await client.query<{ xmin: string; oid: string }>(
        `${SNAPSHOT_XMIN}, to_regclass(quote_ident($1))::oid as oid`,
        [name],
      );
      await updatePlan(client, tables, plan, {
        own_table: name,
        table_oid: rows[0]?.oid ?? "",
        phase: "copying",
        copied_through: null,
        copied_rows: 0,
        changed_since: rows[0]?.xmin ?? null,
      });
      await updateStoreIndex(client, tables, plan, { language, has_words: hasWords });
    },
    signal,
  );
}

/**
 * Copies the store's rows in order of id, one transaction per batch. Each batch commits its last id
 * (`copied_through`), so a copy that was interrupted resumes there.
 */
export async function copyStoreRows({ database, pool, signal }: WorkContext, plan: Plan): Promise<void> {
  const { tables } = database;
  const own = placeTables(tables, plan);
  const columns = await cancellable(pool, signal, (client) => findColumns(client, tables.embeddings));
  // What keeps Citus from moving the empty table, such as a rebalance that runs, must not keep the rows from being copied.
  if (database.citus?.distributes === true && plan.copied_through === null)
    await cancellable(pool, signal, (client) => spreadTable(client, plan.own_table ?? "")).catch(() => {});
  const rowsMax = Math.min(BATCH_ROWS_MAX, Math.ceil(BATCH_BYTES / ((plan.dimensions ?? 0) * 4 + ROW_BYTES)));
  for (let isComplete = false; !isComplete;) {
    isComplete = await transaction(
      pool,
      async (client) => {
        const locked = await lockPlan(client, tables, plan);
        if (locked === undefined || locked.index_policy === "never") return true;
        await requireTwoPhase(client, database);
        const { rows } = await client.query<{ rows: number; last: string | null }>(
          `with batch as (
             insert into ${own.embeddings} (${columns})
             select ${columns} from only ${tables.embeddings}
             where ${tables.vectorStoreId} = $1 and ($2::text is null or ${tables.id} > $2)
             order by ${tables.id} limit $3
             returning ${tables.id} as id)
           select count(*)::int as rows, max(id) as last from batch`,
          [plan.id, locked.copied_through, rowsMax],
        );
        const batch = rows[0] ?? { rows: 0, last: null };
        const isLast = batch.rows < rowsMax;
        await client.query(
          `update ${tables.indexes} set copied_rows = copied_rows + $2, copied_through = coalesce($3, copied_through),
             phase = $4 where number = $1`,
          [plan.number, batch.rows, batch.last, isLast ? "following" : "copying"],
        );
        return isLast;
      },
      signal,
    );
  }
}

/**
 * Catches the copy up and switches the store to its own table. The last round of catch-up and the switch run
 * under the store's exclusive placement lock, which blocks the store's writers; searches take no such lock
 * and never wait.
 */
export async function switchTable(context: WorkContext, plan: Plan): Promise<void> {
  const { database, pool, signal } = context;
  const { tables } = database;
  const own = placeTables(tables, plan).embeddings;
  const columns = await cancellable(pool, signal, (client) => findColumns(client, own));
  const areCurrent = async (client: Client) => (await findColumns(client, tables.embeddings)) === columns;
  // A column added to the shared table since the copy began is missing from the own table: discard the copy.
  if (!(await cancellable(pool, signal, areCurrent))) return withdraw(context, plan);
  await finishTable(context, plan);
  for (let round = 0, changes = Infinity; round < ROUNDS_MAX && changes > ROUND_ROWS_MIN; round++) {
    changes = await transaction(
      pool,
      async (client) => {
        const locked = await lockPlan(client, tables, plan);
        if (locked === undefined) return 0;
        return (await catchUp(client, database, locked, columns)).changes;
      },
      signal,
    );
  }
  const isOutdated = await transaction(
    pool,
    async (client) => {
      await client.query(`set local lock_timeout = ${SWITCH_WAIT_MS}`);
      await lockExclusive(client, tables, placementLock(plan.id ?? ""));
      const locked = await lockPlan(client, tables, plan);
      if (locked === undefined || locked.index_policy === "never") return false;
      if (!(await areCurrent(client))) return true;
      const { rows } = await catchUp(client, database, locked, columns);
      await checkCount(client, tables, locked, rows);
      await updateStoreIndex(client, tables, plan, {
        own_table: plan.own_table ?? "",
        index_state: "building",
      });
      await updatePlan(client, tables, plan, { phase: "cleaning" });
      return false;
    },
    signal,
  );
  // The column was added during the last minute, as above.
  if (isOutdated) await withdraw(context, plan);
}

/** The result of one round of catch-up. */
interface Round {
  /** The store's rows in the shared table. */
  rows: number;
  /** Rows deleted from the copy and rows copied again. */
  changes: number;
}

/**
 * Applies to the copy what was committed to the shared table since the last round. Changed rows are found by
 * their system column `xmin`, the id of the transaction that wrote them: a transaction still running at the
 * last round's horizon has at least the id `changed_since`. Ids are 32 bits and wrap around, so the query
 * compares `age()`; a row old enough to look young by wraparound is only copied once more. Deleted rows are
 * found by comparing keys. The shared table is scanned once; of the copy only the key is read.
 */
async function catchUp(client: Client, database: Database, plan: Plan, columns: string): Promise<Round> {
  const { tables } = database;
  const { embeddings: own } = placeTables(tables, plan);
  const { embeddings: shared, id, vectorStoreId } = tables;
  // Read the horizon before the statement below takes its snapshot: whatever that snapshot does not see was
  // written by a transaction with at least this id, and the next round copies it.
  await requireTwoPhase(client, database);
  const { rows: horizon } = await client.query<{ xmin: string }>(SNAPSHOT_XMIN);
  const { rows } = await client.query<Round>(
    `with current as materialized (
       select ${id}, age(xmin) <= age($2::text::xid8::xid) as is_changed from only ${shared} where ${vectorStoreId} = $1),
     removed as (
       delete from ${own} where ${vectorStoreId} = $1 and ${id} = any(array(select ${id} from ${own} except select ${id} from current))
       returning 1),
     copied as (
       insert into ${own} (${columns})
       select ${columns} from only ${shared}
       where ${vectorStoreId} = $1 and ${id} = any(array(select ${id} from current where is_changed))
       on conflict (${vectorStoreId}, ${id}) do update set ${columns
         .split(", ")
         .map((column) => `${column} = excluded.${column}`)
         .join(", ")}
       returning 1)
     select (select count(*) from current)::int as rows,
       ((select count(*) from removed) + (select count(*) from copied))::int as changes`,
    [plan.id, plan.changed_since],
  );
  await updatePlan(client, tables, plan, { changed_since: horizon[0]?.xmin ?? null });
  return rows[0] as Round;
}

/** Throws unless the copy has `expected` rows: a last safeguard before searches read the copy. */
async function checkCount(client: Client, tables: Tables, plan: Plan, expected: number): Promise<void> {
  const { rows } = await client.query<{ count: number }>(
    `select count(*)::int as count from ${placeTables(tables, plan).embeddings}`,
  );
  if (rows[0]?.count !== expected)
    throw new Error(`The copy has ${rows[0]?.count} rows instead of ${expected}: the copy is not used.`);
}

/**
 * Deletes the store's rows from the shared table and makes the own table its child (INHERIT), in one
 * transaction: SQL that selects from the shared table sees every row exactly once, before and after.
 */
export async function cleanShared({ database, pool, signal }: WorkContext, plan: Plan): Promise<void> {
  const { tables } = database;
  const own = placeTables(tables, plan).embeddings;
  await transaction(
    pool,
    async (client) => {
      // INHERIT needs SHARE UPDATE EXCLUSIVE on the parent, which conflicts with no reader or writer. Taken
      // before the DELETE, so that a lock timeout wastes no work.
      await client.query(`set local lock_timeout = ${CLEAN_WAIT_MS}`);
      await client.query(`lock table only ${tables.embeddings} in share update exclusive mode`);
      if ((await lockPlan(client, tables, plan)) === undefined) return;
      await client.query(`delete from only ${tables.embeddings} where ${tables.vectorStoreId} = $1`, [
        plan.id,
      ]);
      await deleteWords(client, tables, plan.id ?? "");
      const changes = await dropFormer(client, tables, plan);
      // A distributed table cannot inherit: SQL over the shared table does not see the store's rows any more.
      if (!(await isDistributed(client, database, plan.own_table))) changes.push(inherit(own, tables));
      await changeBriefly(client, changes, signal);
      await updatePlan(client, tables, plan, { phase: "settled" });
    },
    signal,
  );
}

/**
 * The statement that drops the table that the store had before it was embedded with another model, whose clean-up may be under way: as long as
 * that is a child of the shared table too, SQL over the shared table would see its rows beside those of the own table.
 */
async function dropFormer(client: Client, tables: Tables, plan: Plan): Promise<string[]> {
  const { rows } = await client.query<{ former: string | null }>(
    `select former_table as former from ${tables.reembeddings}
     where vector_store_id = $1 and status = 'in_progress' and phase = 'cleaning' and own_table = $2`,
    [plan.id, plan.own_table],
  );
  const former = rows[0]?.former ?? null;
  return former === null ? [] : [drop(placeTables(tables, { own_table: former }).embeddings)];
}

/**
 * Drops the unfinished copy and resets the plan to its first phase: the store's rows never left the shared
 * table.
 */
export async function withdraw({ database, pool, signal }: WorkContext, plan: Plan): Promise<void> {
  const { tables } = database;
  await transaction(
    pool,
    async (client) => {
      if ((await lockPlan(client, tables, plan)) === undefined) return;
      await client.query(`drop table if exists ${placeTables(tables, plan).embeddings}`);
      await updatePlan(client, tables, plan, { own_table: null, phase: "shared", copied_through: null });
    },
    signal,
  );
}
