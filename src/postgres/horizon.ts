import { PREPARED, SESSION, type Blocker } from "./blockers.ts";
import type { Queryable } from "./database.ts";

/** At most so many blockers are read: whoever has ended the oldest sees the next. */
const BLOCKERS_MAX = 10;

/**
 * Finds what holds the xmin horizon back: rows deleted since then cannot be vacuumed, and CREATE INDEX
 * CONCURRENTLY waits for transactions of that age. The oldest xmin first. Left out are this session and
 * vacuums, whose xmin does not count. Every role may read the pid, the application and the xmin of all
 * sessions, but only members of pg_read_all_stats the state and the age of other roles' sessions.
 */
export async function findHorizonBlockers(client: Queryable): Promise<Blocker[]> {
  const { rows } = await client.query<Blocker>(
    `select ${SESSION} from pg_stat_activity as activity
     where (backend_xmin is not null or backend_xid is not null) and pid <> pg_backend_pid()
       and (datname = current_database() or backend_type = 'walsender')
       and not exists (select from pg_stat_progress_vacuum as vacuum where vacuum.pid = activity.pid)
       and not exists (select from pg_replication_slots as slot where slot.active_pid = activity.pid)
     union all
     select ${PREPARED} from pg_prepared_xacts where database = current_database()
     union all
     select slot_type || '_slot', active_pid, slot_name::text, null,
       case when active then 'active' else 'inactive' end, null, greatest(age(xmin), age(catalog_xmin))
     from pg_replication_slots where xmin is not null or catalog_xmin is not null
     order by transactions desc nulls last limit ${BLOCKERS_MAX}`,
  );
  return rows;
}

/** Finds whom a session waits for; none when it does not wait for a lock. */
export async function findBlockersOf(client: Queryable, pid: number): Promise<Blocker[]> {
  const { rows } = await client.query<Blocker>(
    `select ${SESSION} from pg_stat_activity where pid = any (pg_blocking_pids($1))
     union all
     select ${PREPARED} from pg_prepared_xacts where transaction in (
       select transactionid from pg_locks where pid = $1 and not granted)
     order by age_seconds desc nulls last limit ${BLOCKERS_MAX}`,
    [pid],
  );
  return rows;
}

/**
 * A blocker that is older by either is worth naming. The age in seconds may be hidden, and slots have none;
 * active ones trail the present by little.
 */
const OLD_SECONDS = 60;
const OLD_TRANSACTIONS = 100_000;

/** Whether a blocker is more than the ordinary traffic of a busy database; an inactive slot always is. */
export function isOld({ state, age_seconds: age, transactions }: Blocker): boolean {
  if (state === "inactive") return true;
  return (age ?? 0) >= OLD_SECONDS || (transactions ?? 0) >= OLD_TRANSACTIONS;
}
