import { removeBytes } from "../files/leftovers.ts";
import type { Buckets } from "../files/buckets.ts";
import type { FileRow } from "../files/rows.ts";
import type { Client, Database } from "../postgres/database.ts";
import { tableNames, type Tables } from "../postgres/tables.ts";
import { transaction } from "../postgres/transaction.ts";
import { countRemoval, lockStore } from "../storage/counts.ts";
import { deleteEmbeddings } from "../storage/embeddings.ts";
import { openForWriting } from "../storage/placement.ts";
import { removeContents } from "../vector-stores/removal.ts";
import { claimErasure, countErased, endErasure, type Erased } from "./erasures.ts";

/** Rows and files per transaction, so that each is short. */
const ROWS = 5_000;
const FILES = 100;

/**
 * How long after it was archived a project is counted as empty at the earliest: a process may take its keys for a second,
 * and a call that began before may still make something.
 */
const SETTLE_MS = 5_000;

/** What a step came to: the project whose erasure goes on, and files whose bytes are still to be removed. */
interface Step {
  project: string;
  isLast: boolean;
  files: Pick<FileRow, "id" | "object_url">[];
}

/**
 * Does one step of an erasure that is due: a transaction that erases a store, a part of its rows, or some files, and counts
 * them. Killed in between, the next step goes on where the last one was committed. Undefined: no erasure is due.
 */
export async function eraseStep(
  database: Database,
  buckets: Buckets,
  claimed: (project: string) => void,
): Promise<Step | undefined> {
  const { pool, tables } = database;
  const step = await transaction(pool, async (client): Promise<Step | undefined> => {
    const project = await claimErasure(client, tables);
    if (project === undefined) return undefined;
    claimed(project);
    // What is left at the end is looked for in all rows.
    await client.query("set local statement_timeout = 0");
    const erased =
      (await eraseOfStores(client, tables, project)) ?? (await markFiles(client, tables, project));
    if (erased !== undefined) {
      await countErased(client, tables, project, erased);
      return { project, isLast: false, files: [] };
    }
    const files = await findMarked(client, tables, project);
    if (files.length > 0) return { project, isLast: false, files };
    await countErased(client, tables, project, await eraseRest(client, tables, project));
    const remaining = await countRemaining(client, tables, project);
    const isSettled = await hasSettled(client, tables, project);
    await endErasure(client, tables, project, isSettled ? remaining : Math.max(remaining, 1), SETTLE_MS / 5);
    return { project, isLast: true, files: [] };
  });
  // Not in the transaction: a bucket may be slow.
  for (const file of step?.files ?? []) await removeBytes(database, buckets, file);
  return step;
}

/** Erases a store, or a part of its rows; undefined when the project has none. */
async function eraseOfStores(client: Client, tables: Tables, project: string): Promise<Erased | undefined> {
  const { rows } = await client.query<{ id: string; own_table: string | null; embedding_count: string }>(
    `select id, own_table, embedding_count from ${tables.vectorStores} where project_id = $1 order by id limit 1`,
    [project],
  );
  const [store] = rows;
  if (store === undefined) return undefined;
  const { id } = store;
  // Held to the end: the index worker cannot move the rows meanwhile.
  const placed = await openForWriting(client, tables, id);
  if (placed === undefined) return {};
  if (store.own_table === null && Number(store.embedding_count) > ROWS) {
    await lockStore(client, tables, id);
    const some = `${tables.id} in (select ${tables.id} from only ${placed.embeddings} where ${tables.vectorStoreId} = $1 limit $2)`;
    const removed = await deleteEmbeddings(client, placed, id, some, [ROWS]);
    await countRemoval(client, tables, id, removed);
    if (removed.rows > 0) return { rows: removed.rows, usage_bytes: removed.bytes };
  }
  let counted: Erased = {};
  const claim = async () => {
    const deleted = await client.query<{ rows: string; bytes: string }>(
      `delete from ${tables.vectorStores} where id = $1 returning embedding_count as rows, usage_bytes as bytes`,
      [id],
    );
    const [row] = deleted.rows;
    if (row !== undefined)
      counted = { vector_stores: 1, rows: Number(row.rows), usage_bytes: Number(row.bytes) };
    return row !== undefined;
  };
  const second = await findSecondTables(client, tables, id);
  await removeContents(client, tables, id, claim);
  for (const table of [store.own_table, ...second]) await requireDropped(client, table);
  return counted;
}

/** The tables of a store with the vectors of another model: see src/vector-stores/reembedding/. */
async function findSecondTables(client: Client, tables: Tables, id: string): Promise<(string | null)[]> {
  const { rows } = await client.query<{ own_table: string | null; former_table: string | null }>(
    `select own_table, former_table from ${tables.reembeddings} where vector_store_id = $1 and status = 'in_progress'`,
    [id],
  );
  return rows.flatMap(({ own_table: second, former_table: former }) => [second, former]);
}

/** Throws when a store's own table is still there, because somebody has it locked: it would be left to the index worker. */
async function requireDropped(client: Client, table: string | null): Promise<void> {
  const { rows } = await client.query<{ is_left: boolean }>(
    "select to_regclass(quote_ident($1)) is not null as is_left",
    [table],
  );
  if (rows[0]?.is_left === true)
    throw new Error(`Another session has the table ${table} locked, so it cannot be dropped`);
}

/** Deletes some files of the project, without their bytes; undefined when it has none. */
async function markFiles(client: Client, tables: Tables, project: string): Promise<Erased | undefined> {
  const { rows } = await client.query<{ marked: string; files: string; bytes: string }>(
    `with chosen as (
       select id, state from ${tables.files} where project_id = $1 and state <> 'deleted' order by id limit $2 for update),
     marked as (
       update ${tables.files} as file set state = 'deleted', updated_at = now() from chosen where file.id = chosen.id
       returning chosen.state, bytes)
     select count(*) as marked, count(*) filter (where state = 'ready') as files,
       coalesce(sum(bytes) filter (where state = 'ready'), 0) as bytes from marked`,
    [project, FILES],
  );
  const [row] = rows;
  if (row === undefined || Number(row.marked) === 0) return undefined;
  return { files: Number(row.files), file_bytes: Number(row.bytes) };
}

async function findMarked(client: Client, tables: Tables, project: string): Promise<Step["files"]> {
  const { rows } = await client.query<Step["files"][number]>(
    `select id, object_url from ${tables.files} where project_id = $1 and state = 'deleted' order by id limit $2`,
    [project, FILES],
  );
  return rows;
}

/** The tables that say that the project was erased, and those that are read by way of others. */
const KEPT: readonly (keyof Tables)[] = ["projects", "erasures", "auditLog"];

/** A table and the condition of a project's rows in it. */
interface OfProject {
  table: string;
  condition: string;
}

/** All tables that name projects, or stores by their stored ids, found by their columns. */
async function findTables(client: Client, tables: Tables): Promise<OfProject[]> {
  const kept = KEPT.map((key) => tables[key].slice(1, -1));
  const { rows } = await client.query<{ name: string; column: string }>(
    `select relname as name, attname as column from pg_class join pg_attribute on attrelid = pg_class.oid
     where pg_class.oid = any(select to_regclass(quote_ident(name)) from unnest($1::text[]) as given (name))
       and not attisdropped and (attname in ('project_id', 'vector_store_id') or relname = $2 and attname = $3)`,
    [
      tableNames(tables).filter((name) => !kept.includes(name)),
      tables.embeddings.slice(1, -1),
      tables.vectorStoreId.slice(1, -1),
    ],
  );
  return rows.map(({ name, column }) => ({
    table: `"${name}"`,
    condition:
      column === "project_id" ? "project_id = $1::text" : `starts_with("${column}", $1::text || '/')`,
  }));
}

/** Erases the keys, and what is left in any table. */
async function eraseRest(client: Client, tables: Tables, project: string): Promise<Erased> {
  const keys = await client.query(`delete from ${tables.apiKeys} where project_id = $1`, [project]);
  // A display name may say whose the project was.
  await client.query(`update ${tables.projects} set name = 'Erased project' where id = $1`, [project]);
  let others = 0;
  for (const { table, condition } of await findTables(client, tables)) {
    // Stores and files were erased with what belongs to them; one that was made since is found by the next step.
    if (table === tables.vectorStores || table === tables.files) continue;
    others += (await client.query(`delete from ${table} where ${condition}`, [project])).rowCount ?? 0;
  }
  return { api_keys: keys.rowCount ?? 0, other_rows: others };
}

async function countRemaining(client: Client, tables: Tables, project: string): Promise<number> {
  const counts = (await findTables(client, tables)).map(
    ({ table, condition }) => `(select count(*) from ${table} where ${condition})`,
  );
  const { rows } = await client.query<{ rows: string }>(`select ${counts.join(" + ")} as rows`, [project]);
  return Number(rows[0]?.rows);
}

async function hasSettled(client: Client, tables: Tables, project: string): Promise<boolean> {
  const { rows } = await client.query<{ settled: boolean }>(
    `select archived_at < clock_timestamp() - $2 * interval '1 millisecond' as settled from ${tables.projects} where id = $1`,
    [project, SETTLE_MS],
  );
  return rows[0]?.settled ?? true;
}
