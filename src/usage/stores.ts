import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";

/** Bytes of texts that a project's stores hold on a day. */
export interface StoreSum {
  day: string;
  /** Absent where projects are not told apart. */
  project_id?: string;
  /** A bigint, as text. */
  usage_bytes: string;
}

/** Which of the usage is asked for. */
export interface StoreQuery {
  /** First day, and the day after the last one. */
  from: string;
  until: string;
  /** Empty: all projects. */
  projects: readonly string[];
  isByProject: boolean;
}

const TODAY = "(now() at time zone 'utc')::date";

/** Notes what the stores of each project hold today. */
export async function noteStores(client: Queryable, tables: Tables): Promise<void> {
  // In the order of the key: two processes that note at the same time cannot deadlock.
  await client.query(
    `with held as (
       select project_id, sum(usage_bytes) as usage_bytes from ${tables.vectorStores} group by project_id),
     known as (
       select project_id, 0 as usage_bytes from ${tables.storeUsage}
       where day = ${TODAY} and project_id not in (select project_id from held))
     insert into ${tables.storeUsage} (project_id, day, usage_bytes)
     select project_id, ${TODAY}, usage_bytes from (select * from held union all select * from known) as noted
     order by project_id
     on conflict (project_id, day) do update set usage_bytes = excluded.usage_bytes`,
  );
}

/** Reads what stores hold per day, in order of time: today as it is now, other days as they were noted. */
export async function sumStores(
  client: Queryable,
  tables: Tables,
  { from, until, projects, isByProject }: StoreQuery,
): Promise<StoreSum[]> {
  const columns = isByProject ? "day, project_id" : "day";
  const result = await client.query<StoreSum>(
    `select day::text${isByProject ? ", project_id" : ""}, sum(usage_bytes)::text as usage_bytes from (
       select day, project_id, usage_bytes from ${tables.storeUsage} where day <> ${TODAY}
       union all
       select ${TODAY}, project_id, usage_bytes from ${tables.vectorStores}) as held
     where day >= $1::date and day < $2::date and (cardinality($3::text[]) = 0 or project_id = any($3::text[]))
     group by ${columns} order by ${columns}`,
    [from, until, projects],
  );
  return result.rows;
}
