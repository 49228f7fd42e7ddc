import { setTimeout as delay } from "node:timers/promises";
import pg from "pg";
import type { Citus, Client, Database, Queryable } from "../database.ts";
import { isLockTimeout } from "../errors.ts";
import { SEARCH_SETTINGS } from "../search-settings.ts";
import type { Tables } from "../tables.ts";
import { transaction } from "../transaction.ts";
import { NodeWatch, type NodePool } from "./node-watch.ts";
import { installUnitedView } from "./united-view.ts";

/** `auto`: own tables are distributed where the cluster has active workers. `off`: no further ones are. */
export type CitusMode = "auto" | "off";

/** Lock timeout of one try, since writers queue behind it; the pause between tries, and how many there are. */
const LOCK_TRY_MS = 300;
const LOCK_PAUSE_MS = 1_000;
const LOCK_TRIES = 60;

/**
 * Ends the connections to nodes with the transaction. The session would go on using them, and they have begun before the
 * role's defaults were set: its searches would look at 40 rows of an index in place of 100.
 */
const KEEP_NO_CONNECTIONS = "set local citus.max_cached_conns_per_worker = 0";

/** Memory and parallel workers of index builds. */
interface BuildSettings {
  memoryBytes: number;
  workers: number;
}

/**
 * Prepares a migrated database that is the coordinator of a Citus cluster with active workers, gives its pool a watch of the
 * nodes, and returns what is to be known of the cluster; undefined: there is no such cluster. What is there already is left alone, so a later start only reads. Throws
 * an Error with a message for operators when the role lacks a privilege.
 */
export async function prepareCitus(
  database: Database,
  mode: CitusMode,
  build: BuildSettings,
): Promise<Citus | undefined> {
  if (database.kind === "embedded" || !(await hasWorkers(database.pool))) return undefined;
  const { isReady, maySettle } = await readState(database.pool, database.tables);
  if (mode === "off" && !isReady) return undefined;
  if (!maySettle)
    throw new Error(
      "On a Citus cluster the role must be able to resolve in-doubt transactions. Let an administrator run: " +
        "grant execute on function recover_prepared_transactions() to the service's role",
    );
  if (!isReady) await installTwoPhase(database);
  await setOnNodes(database, {
    ...SEARCH_SETTINGS,
    maintenance_work_mem: `${Math.ceil(build.memoryBytes / 1024)}kB`,
    max_parallel_maintenance_workers: build.workers,
  });
  await installUnitedView(database);
  Object.assign(database.pool, { nodes: new NodeWatch(database.probe) } satisfies NodePool);
  return { distributes: mode === "auto" };
}

/** As `prepareCitus` for a database that was prepared before; reads only. */
export async function findCitus({ kind, pool, tables }: Database): Promise<Citus | undefined> {
  if (kind === "embedded" || !(await hasWorkers(pool))) return undefined;
  const { isReady } = await readState(pool, tables);
  return isReady ? { distributes: false } : undefined;
}

/** Whether the database is a Citus coordinator with nodes that take shards. */
export async function hasWorkers(queryable: Queryable): Promise<boolean> {
  const { rows: extensions } = await queryable.query<{ found: boolean }>(
    "select to_regclass('pg_catalog.pg_dist_node') is not null as found",
  );
  if (extensions[0]?.found !== true) return false;
  const { rows } = await queryable.query<{ found: boolean }>(
    "select exists (select from pg_dist_node where isactive and shouldhaveshards and noderole = 'primary') as found",
  );
  return rows[0]?.found === true;
}

/** The name, not quoted, of the table, the function and the trigger of `installTwoPhase`. */
export function nameTwoPhase({ vectorStores }: Pick<Tables, "vectorStores">): string {
  const suffix = vectorStores === '"vector_stores"' ? "" : `_${vectorStores.slice(1, -1)}`;
  return `pgquiver_two_phase${suffix}`.slice(0, 63);
}

/** Whether two-phase commit is installed, and whether the role may resolve in-doubt transactions. */
async function readState(
  queryable: Queryable,
  tables: Tables,
): Promise<{ isReady: boolean; maySettle: boolean }> {
  const { rows } = await queryable.query<{ isReady: boolean; maySettle: boolean }>(
    `select exists (select from pg_trigger where tgrelid = to_regclass($1) and tgname = $2 and tgenabled <> 'D')
         and exists (select from pg_dist_partition where logicalrelid = to_regclass(quote_ident($2))) as "isReady",
       has_function_privilege('pg_catalog.recover_prepared_transactions()', 'execute') as "maySettle"`,
    [tables.vectorStores, nameTwoPhase(tables)],
  );
  return rows[0] as { isReady: boolean; maySettle: boolean };
}

/**
 * Makes every transaction that writes rows of a distributed table commit in two phases. Citus commits by two phases only
 * where a transaction has changed shards of two nodes, and a row of the plain table `vector_stores` is none: the worker's
 * COMMIT would go out before the coordinator's, and a crash in between would leave rows that no counter counts. An UPDATE of
 * a table that is known to Citus is a change of a second shard, even if it finds no row.
 *
 * A trigger does it, whichever program or version of the service writes: every transaction that writes rows of a store
 * increments `row_changes` of the store's row.
 */
async function installTwoPhase(database: Database): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await transaction(database.pool, (client) => createTwoPhase(client, database));
    } catch (error) {
      if (!isLockTimeout(error) || attempt === LOCK_TRIES) throw error;
      await delay(LOCK_PAUSE_MS);
    }
  }
}

async function createTwoPhase(client: Client, { tables }: Database): Promise<void> {
  const name = pg.escapeIdentifier(nameTwoPhase(tables));
  await client.query(`set local lock_timeout = ${LOCK_TRY_MS}`);
  await client.query(KEEP_NO_CONNECTIONS);
  // First: another process that starts at the same time may be making them.
  await client.query(`lock table ${tables.vectorStores} in share row exclusive mode`);
  if ((await readState(client, tables)).isReady) return;
  await client.query(`create table if not exists ${name} (id text primary key, n int)`);
  await client.query("select citus_add_local_table_to_metadata($1::regclass)", [name]);
  const { rows } = await client.query<{ schema: string }>("select quote_ident(current_schema()) as schema");
  const schema = rows[0]?.schema ?? "public";
  // Of the coordinator alone: with the propagation of DDL, each node would get a function that nothing calls.
  await client.query("set local citus.enable_ddl_propagation = off");
  await client.query(
    `create or replace function ${name}() returns trigger language plpgsql security definer set search_path = pg_catalog, pg_temp
     as $$ begin update ${schema}.${name} set n = n where id = ''; return null; end $$`,
  );
  await client.query(
    `create or replace trigger ${name} after update of row_changes on ${tables.vectorStores}
     for each row when (new.own_table is not null) execute function ${name}()`,
  );
}

/**
 * Makes the transaction commit in two phases, for one that writes rows of a distributed table without the store's counters,
 * such as the index worker's.
 */
export async function requireTwoPhase(client: Client, { citus, tables }: Database): Promise<void> {
  if (citus === undefined) return;
  await client.query(`update ${pg.escapeIdentifier(nameTwoPhase(tables))} set n = n where id = ''`);
}

/**
 * Sets defaults of the role in this database, on all nodes: what a session of the coordinator sets at its start does not
 * reach the connections from there to the workers.
 */
async function setOnNodes({ pool }: Database, settings: Record<string, string | number>): Promise<void> {
  const { rows } = await pool.query<{ role: string; database: string; settings: string[] | null }>(
    `select current_user::text as role, current_database()::text as database,
       (select setconfig from pg_db_role_setting
        where setrole = current_user::regrole and setdatabase = (select oid from pg_database where datname = current_database())) as settings`,
  );
  const { role = "", database = "", settings: present } = rows[0] ?? {};
  const lacking = Object.entries(settings).filter(
    ([name, value]) => present?.includes(`${name}=${value}`) !== true,
  );
  if (lacking.length === 0) return;
  const alter = lacking.map(
    ([name, value]) =>
      `alter role ${pg.escapeIdentifier(role)} in database ${pg.escapeIdentifier(database)} set ${name} = ${pg.escapeLiteral(String(value))};`,
  );
  // Each node for itself: without pgvector's library in the session an ordinary role may not set its parameters, and Citus
  // has the nodes set them in sessions without it.
  const set = `do $do$ begin perform '[1]'::vector; perform set_config('citus.enable_ddl_propagation', 'off', true);
    ${alter.join(" ")} end $do$`;
  await transaction(pool, async (client) => {
    await client.query(KEEP_NO_CONNECTIONS);
    // Two ALTER ROLE at the same time fail.
    await client.query("select pg_advisory_xact_lock(hashtextextended('pgquiver role settings', 0))");
    // The coordinator last, whose settings tell whether all nodes have them.
    const { rows } = await client.query<{ node: string; result: string }>(
      "select nodename || ':' || nodeport as node, result from run_command_on_workers($1) where not success",
      [set],
    );
    const [failed] = rows;
    if (failed !== undefined)
      throw new Error(`The role's settings could not be made on the node ${failed.node}: ${failed.result}`);
    await client.query(set);
  });
}

/** Makes an empty own table a distributed one, with a single shard on the first node: see `spreadTable`. */
export async function distributeTable(client: Client, { tables }: Database, own: string): Promise<void> {
  await client.query(
    "select create_distributed_table($1::regclass, $2, shard_count => 1, colocate_with => 'none')",
    [own, tables.id.slice(1, -1)],
  );
}

/**
 * Bytes of a node's tables and indexes by the statistics in its catalog, which each VACUUM and each index build renew: Citus's own
 * `citus_shards` has every node read the size of every file, 0.4 ms for each table of the cluster.
 */
const NODE_BYTES = `select sum(relpages)::bigint * current_setting('block_size')::bigint from pg_class
  where relnamespace <> 'pg_catalog'::regnamespace`;

/**
 * Moves the shard of an empty distributed table to the node with the fewest bytes. Citus itself puts the first shard of each
 * table on the same node. A table that stays there, since a crash or an error came in between, works too.
 */
export async function spreadTable(client: Client, name: string): Promise<void> {
  const { rows } = await client.query<{ shard: string; from: number; to: number }>(
    `with best as (
       select nodeid from run_command_on_all_nodes($2) as answer join pg_dist_node using (nodeid)
         left join (select groupid, count(*) as shards from pg_dist_placement group by 1) as held using (groupid)
       where success and isactive and shouldhaveshards and noderole = 'primary'
       order by result::bigint, coalesce(shards, 0), nodeid limit 1)
     select shardid::text as shard, node.nodeid as from, best.nodeid as to
     from pg_dist_shard join pg_dist_placement using (shardid) join pg_dist_node as node using (groupid), best
     where logicalrelid = to_regclass(quote_ident($1)) and noderole = 'primary' and node.nodeid <> best.nodeid`,
    [name, NODE_BYTES],
  );
  // Nobody writes the table yet, so nobody is blocked.
  for (const { shard, from, to } of rows)
    await client.query("select citus_move_shard_placement($1, $2::int, $3::int, 'block_writes')", [
      shard,
      from,
      to,
    ]);
}

/** Whether an own table, by its name that is not quoted, is a distributed one. */
export async function isDistributed(
  queryable: Queryable,
  { citus }: Database,
  name: string | null,
): Promise<boolean> {
  if (citus === undefined || name === null) return false;
  const { rows } = await queryable.query<{ found: boolean }>(
    "select exists (select from pg_dist_partition where logicalrelid = to_regclass(quote_ident($1)) and partmethod = 'h') as found",
    [name],
  );
  return rows[0]?.found === true;
}
