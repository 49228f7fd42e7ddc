import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";

/** A row of the table of erasures. Counts are bigints, as text. */
export interface ErasureRow extends Record<Count, string> {
  project_id: string;
  state: "in_progress" | "completed";
  requested_by: string;
  requested_at: Date;
  completed_at: Date | null;
  remaining_rows: string | null;
  last_error: string | null;
}

/** What is counted while it is erased. */
export type Count =
  | "vector_stores"
  | "rows"
  | "usage_bytes"
  | "files"
  | "file_bytes"
  | "api_keys"
  | "other_rows";

/** Increments of the counts. */
export type Erased = Partial<Record<Count, number>>;

const COLUMNS = `project_id, state, requested_by, requested_at, completed_at, vector_stores, rows, usage_bytes, files,
  file_bytes, api_keys, other_rows, remaining_rows, last_error`;

/** Requests an erasure, once per project, and returns its row. */
export async function requestErasure(
  client: Queryable,
  tables: Tables,
  projectId: string,
  requestedBy: string,
): Promise<ErasureRow> {
  await client.query(
    `insert into ${tables.erasures} (project_id, requested_by) values ($1, $2) on conflict do nothing`,
    [projectId, requestedBy],
  );
  return (await findErasure(client, tables, projectId)) as ErasureRow;
}

/** Reads an erasure; undefined when none was requested. */
export async function findErasure(
  client: Queryable,
  tables: Tables,
  projectId: string,
): Promise<ErasureRow | undefined> {
  const { rows } = await client.query<ErasureRow>(
    `select ${COLUMNS} from ${tables.erasures} where project_id = $1`,
    [projectId],
  );
  return rows[0];
}

/** Locks an erasure that is due until the end of the transaction; undefined: none is, or other processes work on all. */
export async function claimErasure(client: Queryable, tables: Tables): Promise<string | undefined> {
  const { rows } = await client.query<{ project_id: string }>(
    `select project_id from ${tables.erasures} where state = 'in_progress' and coalesce(retry_at <= now(), true)
     order by requested_at limit 1 for update skip locked`,
  );
  return rows[0]?.project_id;
}

/** Adds to the counts of an erasure, in the transaction that erases. */
export async function countErased(
  client: Queryable,
  tables: Tables,
  projectId: string,
  erased: Erased,
): Promise<void> {
  const counts = Object.entries(erased);
  const changes = counts.map(([name], index) => `${name} = ${name} + $${index + 2}::bigint`);
  await client.query(
    `update ${tables.erasures} set ${[...changes, "retry_at = null", "last_error = null"].join(", ")} where project_id = $1`,
    [projectId, ...counts.map(([, count]) => count)],
  );
}

/** Notes how many rows are left; without any the erasure is completed, and else tried again after `pauseMs`. */
export async function endErasure(
  client: Queryable,
  tables: Tables,
  projectId: string,
  remaining: number,
  pauseMs: number,
): Promise<void> {
  await client.query(
    `update ${tables.erasures} set remaining_rows = $2::bigint,
       state = case $2::bigint when 0 then 'completed' else state end,
       completed_at = case $2::bigint when 0 then now() end,
       retry_at = now() + $3 * interval '1 millisecond'
     where project_id = $1`,
    [projectId, remaining, pauseMs],
  );
}

/** Notes a failure; the erasure is tried again after `pauseMs`. */
export async function postponeErasure(
  client: Queryable,
  tables: Tables,
  projectId: string,
  message: string,
  pauseMs: number,
): Promise<void> {
  await client.query(
    `update ${tables.erasures} set last_error = $2, retry_at = now() + $3 * interval '1 millisecond' where project_id = $1`,
    [projectId, message, pauseMs],
  );
}
