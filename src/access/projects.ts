import type { Limits } from "../api/rates/limits.ts";
import type { Queryable } from "../postgres/database.ts";
import { composePage, type KeysetPage, type Position } from "../postgres/keyset.ts";
import type { Tables } from "../postgres/tables.ts";

/** A row of the table of projects. */
export interface ProjectRow {
  id: string;
  name: string;
  created_at: Date;
  archived_at: Date | null;
  limits: Limits | null;
  /** Null: the project has none. */
  quotas: Quotas | null;
}

/** Names of the quotas, as the API and the database spell them. */
export const QUOTA_NAMES = [
  "max_stores",
  "max_rows",
  "max_bytes",
  "max_files",
  "max_file_bytes",
  "max_embedding_tokens_per_month",
] as const;

/** How much a project may hold and use; a quota that is absent or null does not exist. */
export type Quotas = Readonly<Partial<Record<(typeof QUOTA_NAMES)[number], number | null>>>;

/** What changes in a project; what is absent stays. Without any field in them, limits and quotas are removed. */
export interface ProjectChange {
  name?: string | undefined;
  limits?: Limits | undefined;
  quotas?: Quotas | undefined;
}

/** The columns of a `ProjectRow`. Its quotas have a table of their own, which writers lock rows of. */
function columns(tables: Tables): string {
  return `id, name, created_at, archived_at, limits,
    (select to_jsonb(quota) - 'project_id' from ${tables.quotas} as quota where quota.project_id = id) as quotas`;
}

/** Inserts a project and returns its row. */
export async function insertProject(
  client: Queryable,
  tables: Tables,
  project: { id: string; createdAt: Date; name: string },
  { limits, quotas }: Omit<ProjectChange, "name"> = {},
): Promise<ProjectRow> {
  const { id, name, createdAt } = project;
  await client.query(`insert into ${tables.projects} (id, name, created_at) values ($1, $2, $3)`, [
    id,
    name,
    createdAt,
  ]);
  return (await updateProject(client, tables, id, { limits, quotas })) as ProjectRow;
}

/** Reads a project; undefined when it does not exist. */
export async function findProject(
  client: Queryable,
  tables: Tables,
  id: string,
): Promise<ProjectRow | undefined> {
  const result = await client.query<ProjectRow>(
    `select ${columns(tables)} from ${tables.projects} where id = $1`,
    [id],
  );
  return result.rows[0];
}

/** Reads a project's list position; undefined when it does not exist. */
export async function findProjectPosition(
  client: Queryable,
  tables: Tables,
  id: string,
): Promise<Position | undefined> {
  const result = await client.query<Position>(
    `select created_at::text as created_at, id from ${tables.projects} where id = $1`,
    [id],
  );
  return result.rows[0];
}

/** Reads a page of projects: of all, or, with `only`, of at most this one. */
export async function listProjects(
  client: Queryable,
  tables: Tables,
  page: KeysetPage & { only: string | undefined; includesArchived: boolean },
): Promise<ProjectRow[]> {
  const params: unknown[] = [];
  const { conditions, ending } = composePage(page, "id", params);
  if (page.only !== undefined) conditions.push(`id = $${params.push(page.only)}`);
  if (!page.includesArchived) conditions.push("archived_at is null");
  const result = await client.query<ProjectRow>(
    `select ${columns(tables)} from ${tables.projects}
     ${conditions.length === 0 ? "" : `where ${conditions.join(" and ")}`} ${ending}`,
    params,
  );
  return result.rows;
}

/** Changes a project and returns its row; undefined when it does not exist. */
export async function updateProject(
  client: Queryable,
  tables: Tables,
  id: string,
  { name, limits, quotas }: ProjectChange,
): Promise<ProjectRow | undefined> {
  if (quotas !== undefined) await setQuotas(client, tables, id, quotas);
  await client.query(
    `update ${tables.projects} set name = coalesce($2, name), limits = case when $3 then $4::jsonb else limits end
     where id = $1`,
    [id, name ?? null, limits !== undefined, toJson(limits)],
  );
  return findProject(client, tables, id);
}

/**
 * Replaces a project's quotas. What stores have reserved of the old ones is taken back first, in the writers' lock order
 * (stores, then the quota), so that no store holds more than the new ones allow without asking.
 */
async function setQuotas(client: Queryable, tables: Tables, id: string, quotas: Quotas): Promise<void> {
  await client.query(
    `with held as (
       select id from ${tables.vectorStores}
       where project_id = $1 and (rows_reserved > 0 or bytes_reserved > 0) order by id for no key update)
     update ${tables.vectorStores} as store set rows_reserved = 0, bytes_reserved = 0
     from held where store.id = held.id`,
    [id],
  );
  const values = QUOTA_NAMES.map((name) => quotas[name] ?? null);
  if (values.every((value) => value === null)) {
    await client.query(`delete from ${tables.quotas} where project_id = $1`, [id]);
    return;
  }
  // Not deleted and inserted: a writer that waits for the row's lock would find no quota.
  await client.query(
    `insert into ${tables.quotas} (project_id, ${QUOTA_NAMES.join(", ")}) values (${["$1", ...values.map((_, index) => `$${index + 2}`)].join(", ")})
     on conflict (project_id) do update set ${QUOTA_NAMES.map((name) => `${name} = excluded.${name}`).join(", ")}`,
    [id, ...values],
  );
}

/** Limits without any in them are none. */
function toJson(limits: Limits | undefined): string | null {
  return limits === undefined || Object.keys(limits).length === 0 ? null : JSON.stringify(limits);
}

/** How a project is bounded. */
export interface ProjectBounds {
  limits: Limits | null;
  has_quotas: boolean;
}

/** Reads how projects are bounded. */
export async function findBounds(
  client: Queryable,
  tables: Tables,
  ids: readonly string[],
): Promise<Map<string, ProjectBounds>> {
  const result = await client.query<ProjectBounds & { id: string }>({
    name: "find_bounds",
    text: `select id, limits, exists (select from ${tables.quotas} as quota where quota.project_id = id) as has_quotas
      from ${tables.projects} where id = any($1::text[])`,
    values: [ids],
  });
  return new Map(result.rows.map((row) => [row.id, row]));
}

/** Archives a project, once, and returns its row; undefined when it does not exist. */
export async function archiveProject(
  client: Queryable,
  tables: Tables,
  id: string,
): Promise<ProjectRow | undefined> {
  const result = await client.query<ProjectRow>(
    `update ${tables.projects} set archived_at = coalesce(archived_at, now()) where id = $1 returning ${columns(tables)}`,
    [id],
  );
  return result.rows[0];
}

/** Returns those of the ids that are projects, and not archived. */
export async function findLiveProjects(
  client: Queryable,
  tables: Tables,
  ids: readonly string[],
): Promise<string[]> {
  const result = await client.query<{ id: string }>({
    name: "find_live_projects",
    text: `select id from ${tables.projects} where id = any($1::text[]) and archived_at is null`,
    values: [ids],
  });
  return result.rows.map(({ id }) => id);
}
