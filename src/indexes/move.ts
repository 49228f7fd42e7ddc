import pg from "pg";
import { lockExclusive, placementLock } from "../postgres/advisory.ts";
import { isLockTimeout } from "../postgres/errors.ts";
import type { Client, Database } from "../postgres/pool.ts";
import { placeTables, type Tables } from "../postgres/tables.ts";
import { textVector } from "../postgres/text-index.ts";
import { cancellable, savepoint, transaction } from "../postgres/transaction.ts";
import { lockPlan, updatePlan, updateStore, type Plan } from "./catalog.ts";

/** What a step works with. */
export interface Bench {
  database: Database;
  /** The connection for work in the background. */
  pool: pg.Pool;
  signal: AbortSignal;
}

/** How long the switch waits for the writers, who meanwhile wait behind it; then it is tried again later. */
const SWITCH_WAIT_MS = 1_000;
/** How long a lock is waited for that keeps readers of one store waiting. */
const BRIEF_WAIT_MS = 200;
const BRIEF_WAITS_MAX = 50;
/** Bytes of one transaction of the copy, and its rows. */
const BATCH_BYTES = 16 * 1024 * 1024;
const BATCH_ROWS_MAX = 10_000;
/** A row's text, metadata and the rest, by a guess. */
const ROW_BYTES = 1_024;
/** Rounds of copying what has changed meanwhile, and how few changes make another round needless. */
const ROUNDS_MAX = 10;
const ROUND_ROWS_MIN = 1_000;

/** Makes the table, empty, with the same columns and indexes as the shared one. */
export async function createTable(
  { database, pool, signal }: Bench,
  plan: Plan,
  fallback: string,
): Promise<void> {
  const { tables } = database;
  await transaction(
    pool,
    async (client) => {
      const locked = await lockPlan(client, tables, plan);
      if (locked === undefined) return;
      const name = await chooseName(client, tables);
      const language = locked.language ?? fallback;
      await client.query(
        `create table ${pg.escapeIdentifier(name)} (
           like ${tables.embeddings} including defaults including storage including indexes,
           content_tsvector tsvector generated always as (${textVector(tables.content, language)}) stored,
           check (${tables.vectorStoreId} = ${pg.escapeLiteral(plan.vector_store_id ?? "")})
         ) with (toast_tuple_target = 8160)`,
      );
      // What transactions of lower numbers wrote is committed or gone: the copy, which begins later, sees it.
      const { rows } = await client.query<{ xmin: string }>(SNAPSHOT_XMIN);
      await updatePlan(client, tables, plan, {
        own_table: name,
        phase: "copying",
        copied_through: null,
        copied_rows: 0,
        changed_since: rows[0]?.xmin ?? null,
      });
      await updateStore(client, tables, plan, { language });
    },
    signal,
  );
}

const SNAPSHOT_XMIN = "select pg_snapshot_xmin(pg_current_snapshot())::text as xmin";

/** A name that nobody has: the shared table's and a number. */
async function chooseName(client: Client, tables: Tables): Promise<string> {
  for (;;) {
    const { rows } = await client.query<{ name: string; taken: boolean }>(
      `select name, to_regclass(quote_ident(name)) is not null as taken
       from (select $1 || '_' || nextval(pg_get_serial_sequence($2, 'number')) as name) as drawn`,
      [tables.embeddings.slice(1, -1).slice(0, 40), tables.indexes],
    );
    const [drawn] = rows;
    if (drawn?.taken === false) return drawn.name;
  }
}

/** Copies the store's rows in order of id, batch by batch. */
export async function copyRows({ database, pool, signal }: Bench, plan: Plan): Promise<void> {
  const { tables } = database;
  const own = placeTables(tables, plan);
  const columns = await findColumns(pool, tables);
  const rowsMax = Math.min(BATCH_ROWS_MAX, Math.ceil(BATCH_BYTES / ((plan.dimensions ?? 0) * 4 + ROW_BYTES)));
  for (let isComplete = false; !isComplete;) {
    isComplete = await transaction(
      pool,
      async (client) => {
        const locked = await lockPlan(client, tables, plan);
        if (locked === undefined || locked.index_policy === "never") return true;
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

/** The columns of the shared table, also those an operator has added. */
async function findColumns(pool: pg.Pool, tables: Tables): Promise<string> {
  const { rows } = await pool.query<{ columns: string }>(
    `select string_agg(quote_ident(attname), ', ' order by attnum) as columns from pg_attribute
     where attrelid = $1::regclass and attnum > 0 and not attisdropped and attgenerated = ''`,
    [tables.embeddings],
  );
  return rows[0]?.columns ?? "";
}

/**
 * Brings the copy up to date and makes it the store's table. The last changes are copied while no writer is at work;
 * searches never wait.
 */
export async function switchTable(bench: Bench, plan: Plan): Promise<void> {
  const { database, pool, signal } = bench;
  const { tables } = database;
  await finishTable(bench, plan);
  const columns = await findColumns(pool, tables);
  for (let round = 0, changes = Infinity; round < ROUNDS_MAX && changes > ROUND_ROWS_MIN; round++) {
    changes = await transaction(
      pool,
      async (client) => {
        const locked = await lockPlan(client, tables, plan);
        return locked === undefined ? 0 : (await catchUp(client, tables, locked, columns)).changes;
      },
      signal,
    );
  }
  await transaction(
    pool,
    async (client) => {
      await client.query(`set local lock_timeout = ${SWITCH_WAIT_MS}`);
      await lockExclusive(client, placementLock(tables, plan.id ?? ""));
      const locked = await lockPlan(client, tables, plan);
      if (locked === undefined || locked.index_policy === "never") return;
      const { rows } = await catchUp(client, tables, locked, columns);
      await checkCount(client, tables, locked, rows);
      await updateStore(client, tables, plan, { own_table: plan.own_table ?? "", index_state: "building" });
      await updatePlan(client, tables, plan, { phase: "cleaning" });
    },
    signal,
  );
}

/** Makes the indexes for filters and keywords, and tells the planner about the table. */
async function finishTable({ database, pool, signal }: Bench, plan: Plan): Promise<void> {
  const { embeddings, metadata } = placeTables(database.tables, plan);
  const name = plan.own_table ?? "";
  for (const [suffix, column] of [
    ["metadata", `${metadata} jsonb_path_ops`],
    ["text", "content_tsvector"],
  ]) {
    const index = pg.escapeIdentifier(`${name}_${suffix}`);
    await cancellable(pool, signal, (client) =>
      client.query(`create index if not exists ${index} on ${embeddings} using gin (${column})`),
    );
  }
  await cancellable(pool, signal, (client) => client.query(`vacuum (analyze) ${embeddings}`));
}

/** What a round of catching up found. */
interface Round {
  /** The store's rows in the shared table. */
  rows: number;
  changes: number;
}

/**
 * Makes the copy what the shared table is at this moment but for what is not yet committed. Rows written since the copy
 * began are known by `xmin`, the transaction that wrote them: one that had not ended by then has at least the number
 * `changed_since`. Numbers of 32 bits come round, so they are compared by their age; a row so old that it seems young
 * is only copied once more. The shared table is read once, and of the copy only its key.
 */
async function catchUp(client: Client, tables: Tables, plan: Plan, columns: string): Promise<Round> {
  const { embeddings: own } = placeTables(tables, plan);
  const { embeddings: shared, id, vectorStoreId } = tables;
  // Before the statement below takes its snapshot: what that does not see has at least this number.
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

/** Throws unless the copy has as many rows as the store. */
async function checkCount(client: Client, tables: Tables, plan: Plan, expected: number): Promise<void> {
  const { rows } = await client.query<{ count: number }>(
    `select count(*)::int as count from ${placeTables(tables, plan).embeddings}`,
  );
  if (rows[0]?.count !== expected)
    throw new Error(`The copy has ${rows[0]?.count} rows instead of ${expected}: it is not used.`);
}

/** Deletes the old rows and makes the table a child of the shared one: to SQL over that, both at the same moment. */
export async function cleanShared({ database, pool, signal }: Bench, plan: Plan): Promise<void> {
  const { tables } = database;
  const own = placeTables(tables, plan).embeddings;
  await transaction(
    pool,
    async (client) => {
      if ((await lockPlan(client, tables, plan)) === undefined) return;
      await client.query(`delete from only ${tables.embeddings} where ${tables.vectorStoreId} = $1`, [
        plan.id,
      ]);
      // Whoever reads the store, new ones behind those who are at it, waits for the change, so it may not wait long.
      await client.query(`set local lock_timeout = ${BRIEF_WAIT_MS}`);
      for (let wait = 1; ; wait++) {
        try {
          await savepoint(client, () => client.query(`alter table ${own} inherit ${tables.embeddings}`));
          break;
        } catch (error) {
          if (!isLockTimeout(error) || wait === BRIEF_WAITS_MAX) throw error;
        }
      }
      await updatePlan(client, tables, plan, { phase: "settled" });
    },
    signal,
  );
}

/** Drops the copy, which is not in use: what is left is as if nothing had been begun. */
export async function withdraw({ database, pool, signal }: Bench, plan: Plan): Promise<void> {
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
