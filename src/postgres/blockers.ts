import type { Queryable } from "./database.ts";

/** What keeps a lock, an index build or vacuum waiting. */
export interface Blocker {
  /**
   * A session's open transaction; a prepared transaction (two-phase commit), which has no session; a
   * replication slot; or a standby with `hot_standby_feedback` and no slot.
   */
  kind: "transaction" | "prepared_transaction" | "physical_slot" | "logical_slot" | "standby";
  /** Process id of the session, or of the walsender that uses the slot; null: there is none. */
  pid: number | null;
  /** The session's `application_name`, the prepared transaction's id, or the slot's name. */
  name: string;
  role: string | null;
  /**
   * The session's state, such as "idle in transaction"; for a slot "active" or "inactive". Null: the session
   * is another role's, and this role is no member of pg_read_all_stats.
   */
  state: string | null;
  /** Seconds since the transaction began or was prepared; null: unknown, as the state, or a slot. */
  age_seconds: number | null;
  /** How many transaction ids ago its xmin was; null: it holds no xmin. */
  transactions: number | null;
}

/** Columns of a `Blocker` that is a session, from `pg_stat_activity`. */
export const SESSION = `case backend_type when 'walsender' then 'standby' else 'transaction' end as kind, pid,
  coalesce(nullif(application_name, ''), backend_type, '') as name, usename::text as role, state,
  extract(epoch from clock_timestamp() - xact_start)::float8 as age_seconds,
  greatest(age(backend_xmin), age(backend_xid)) as transactions`;

/** Columns of a `Blocker` that is a prepared transaction, from `pg_prepared_xacts`. */
export const PREPARED = `'prepared_transaction' as kind, null::int as pid, gid as name, owner::text as role, 'prepared' as state,
  extract(epoch from clock_timestamp() - prepared)::float8 as age_seconds, age(transaction) as transactions`;

/** At most so many blockers are read: whoever has ended the oldest sees the next. */
const BLOCKERS_MAX = 5;

/**
 * Finds who holds locks on `tables` (names, not quoted) and their children, the oldest transaction first. Within a
 * transaction Postgres would show the sessions as they were at the first look, so the snapshot is cleared.
 */
export async function findLockHolders(client: Queryable, tables: readonly string[]): Promise<Blocker[]> {
  await client.query("select pg_stat_clear_snapshot()");
  const { rows } = await client.query<Blocker>(
    `with named as (select to_regclass(quote_ident(name))::oid as oid from unnest($1::text[]) as name),
     held as (
       select pid, virtualtransaction from pg_locks
       where locktype = 'relation' and granted and pid is distinct from pg_backend_pid()
         and database = (select oid from pg_database where datname = current_database())
         and (relation in (select oid from named)
           or relation in (select inhrelid from pg_inherits where inhparent in (select oid from named))))
     select ${SESSION} from pg_stat_activity where pid in (select pid from held)
     union all
     select ${PREPARED} from pg_prepared_xacts
     where transaction in (
       select transactionid from pg_locks join held using (virtualtransaction)
       where locktype = 'transactionid' and pg_locks.pid is null and held.pid is null)
     order by age_seconds desc nulls last limit ${BLOCKERS_MAX}`,
    [tables],
  );
  return rows;
}

/** Names a blocker for people, such as `pid 4711 (psql of ada, idle in transaction, for 42 s)`. */
export function describeBlocker(blocker: Blocker): string {
  const { kind, pid, name, role, state, age_seconds: age } = blocker;
  const since = age === null ? [] : [`for ${Math.round(age)} s`];
  if (isSlot(kind)) return `${nameBlocker(blocker)} (${pid === null ? "inactive" : `used by pid ${pid}`})`;
  if (kind === "prepared_transaction")
    return `${nameBlocker(blocker)} (${[`of ${role}`, ...since].join(", ")})`;
  const hidden = "state and age are visible to members of pg_read_all_stats only";
  const facts = [
    `${name} of ${role}`,
    ...(state === null && age === null ? [hidden] : [state ?? kind]),
    ...since,
  ];
  return `pid ${pid} (${facts.join(", ")})`;
}

/** Names a blocker without what changes with time, such as `pid 4711 (psql)`. */
export function nameBlocker({ kind, pid, name }: Blocker): string {
  if (isSlot(kind)) return `replication slot ${name}`;
  return kind === "prepared_transaction" ? `prepared transaction ${name}` : `pid ${pid} (${name})`;
}

function isSlot(kind: Blocker["kind"]): boolean {
  return kind === "physical_slot" || kind === "logical_slot";
}

/** The statement that ends a blocker. */
export function endBlocker({ kind, pid, name }: Blocker): string {
  const literal = `'${name.replaceAll("'", "''")}'`;
  if (kind === "prepared_transaction") return `rollback prepared ${literal};`;
  if (isSlot(kind) && pid === null) return `select pg_drop_replication_slot(${literal});`;
  return `select pg_terminate_backend(${pid});`;
}
