import type { Queryable } from "../postgres/database.ts";
import { composePage, type KeysetPage, type Position } from "../postgres/keyset.ts";
import type { Tables } from "../postgres/tables.ts";

/** A row of the table of projects. */
export interface ProjectRow {
  id: string;
  name: string;
  created_at: Date;
  archived_at: Date | null;
}

const COLUMNS = "id, name, created_at, archived_at";

/** Inserts a project and returns its row. */
export async function insertProject(
  client: Queryable,
  tables: Tables,
  project: { id: string; createdAt: Date; name: string },
): Promise<ProjectRow> {
  const result = await client.query<ProjectRow>(
    `insert into ${tables.projects} (id, name, created_at) values ($1, $2, $3) returning ${COLUMNS}`,
    [project.id, project.name, project.createdAt],
  );
  return result.rows[0] as ProjectRow;
}

/** Reads a project; undefined when it does not exist. */
export async function findProject(
  client: Queryable,
  tables: Tables,
  id: string,
): Promise<ProjectRow | undefined> {
  const result = await client.query<ProjectRow>(`select ${COLUMNS} from ${tables.projects} where id = $1`, [
    id,
  ]);
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
    `select ${COLUMNS} from ${tables.projects}
     ${conditions.length === 0 ? "" : `where ${conditions.join(" and ")}`} ${ending}`,
    params,
  );
  return result.rows;
}

/** Renames a project and returns its row; undefined when it does not exist. */
export async function renameProject(
  client: Queryable,
  tables: Tables,
  id: string,
  name: string,
): Promise<ProjectRow | undefined> {
  const result = await client.query<ProjectRow>(
    `update ${tables.projects} set name = $2 where id = $1 returning ${COLUMNS}`,
    [id, name],
  );
  return result.rows[0];
}

/** Archives a project, once, and returns its row; undefined when it does not exist. */
export async function archiveProject(
  client: Queryable,
  tables: Tables,
  id: string,
): Promise<ProjectRow | undefined> {
  const result = await client.query<ProjectRow>(
    `update ${tables.projects} set archived_at = coalesce(archived_at, now()) where id = $1 returning ${COLUMNS}`,
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
