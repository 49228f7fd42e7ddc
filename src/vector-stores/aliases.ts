import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { DEFAULT_PROJECT, storedId, type StoreOwner } from "../store-id.ts";

/** A row of the table of aliases. */
export interface AliasRow {
  name: string;
  /** The stored id. */
  vector_store_id: string;
  created_at: Date;
  updated_at: Date;
}

const COLUMNS = "name, vector_store_id, created_at, updated_at";

/**
 * Name of the lock that keeps the names of a project's aliases and stores apart: an alias is created under the exclusive
 * lock, a store whose id may be the name of an alias under the shared one.
 */
export function aliasNamesLock(project: string): string {
  return `pgquiver aliases ${project}`;
}

/** Locks a store's row against deletion until the transaction ends; false when there is no such store. */
export async function keepStore(client: Queryable, tables: Tables, storeId: string): Promise<boolean> {
  const found = await client.query(`select from ${tables.vectorStores} where id = $1 for key share`, [
    storeId,
  ]);
  return found.rowCount === 1;
}

/** Inserts an alias and returns its row; undefined when the name is taken. */
export async function insertAlias(
  client: Queryable,
  tables: Tables,
  { project, name, storeId }: { project: string; name: string; storeId: string },
): Promise<AliasRow | undefined> {
  const { rows } = await client.query<AliasRow>(
    `insert into ${tables.aliases} (project_id, name, vector_store_id) values ($1, $2, $3)
     on conflict (project_id, name) do nothing returning ${COLUMNS}`,
    [project, name, storeId],
  );
  return rows[0];
}

/** Counts the aliases of a project. */
export async function countAliases(client: Queryable, tables: Tables, project: string): Promise<number> {
  const { rows } = await client.query<{ count: number }>(
    `select count(*)::int as count from ${tables.aliases} where project_id = $1`,
    [project],
  );
  return rows[0]?.count ?? 0;
}

/** Whether a project has an alias of a name. */
export async function hasAlias(
  client: Queryable,
  tables: Tables,
  project: string,
  name: string,
): Promise<boolean> {
  const aliases = await client.query(`select from ${tables.aliases} where project_id = $1 and name = $2`, [
    project,
    name,
  ]);
  return aliases.rowCount === 1;
}

/** The names of some aliases of a store. */
export async function findNamesOf(client: Queryable, tables: Tables, storeId: string): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `select name from ${tables.aliases} where vector_store_id = $1 order by name limit 3`,
    [storeId],
  );
  return rows.map(({ name }) => name);
}

/** Conditions of the aliases that an owner may see: those of the project whose stores the key lists. */
function ownedBy(owner: StoreOwner, params: unknown[]): string {
  const ofProject = `project_id = $${params.push(owner.project)}`;
  if (owner.storeIds === undefined) return ofProject;
  const ids = [...owner.storeIds].map((id) => storedId(owner, id));
  return `${ofProject} and vector_store_id = any($${params.push(ids)}::text[])`;
}

/** Reads a page of aliases in order of their names, at most `rowsMax` after the name `after`. */
export async function listAliases(
  client: Queryable,
  tables: Tables,
  owner: StoreOwner,
  { after, rowsMax }: { after: string; rowsMax: number },
): Promise<AliasRow[]> {
  const params: unknown[] = [after, rowsMax];
  const { rows } = await client.query<AliasRow>(
    `select ${COLUMNS} from ${tables.aliases} where name > $1 and ${ownedBy(owner, params)} order by name limit $2`,
    params,
  );
  return rows;
}

/** Reads an alias; undefined when the owner has none of this name. */
export async function findAlias(
  client: Queryable,
  tables: Tables,
  owner: StoreOwner,
  name: string,
): Promise<AliasRow | undefined> {
  const params: unknown[] = [name];
  const { rows } = await client.query<AliasRow>(
    `select ${COLUMNS} from ${tables.aliases} where name = $1 and ${ownedBy(owner, params)}`,
    params,
  );
  return rows[0];
}

/** Switches an alias to another store and returns its row; undefined when the owner has none of this name. */
export async function switchAlias(
  client: Queryable,
  tables: Tables,
  owner: StoreOwner,
  { name, storeId }: { name: string; storeId: string },
): Promise<AliasRow | undefined> {
  const params: unknown[] = [name, storeId];
  const { rows } = await client.query<AliasRow>(
    `update ${tables.aliases} set vector_store_id = $2, updated_at = now()
     where name = $1 and ${ownedBy(owner, params)} returning ${COLUMNS}`,
    params,
  );
  return rows[0];
}

/** Deletes an alias; false when the owner has none of this name. */
export async function deleteAlias(
  client: Queryable,
  tables: Tables,
  owner: StoreOwner,
  name: string,
): Promise<boolean> {
  const params: unknown[] = [name];
  const deleted = await client.query(
    `delete from ${tables.aliases} where name = $1 and ${ownedBy(owner, params)}`,
    params,
  );
  return deleted.rowCount === 1;
}

/** Reads the aliases of projects, without those that a store of the same id hides. */
export async function findAliasesOf(
  client: Queryable,
  tables: Tables,
  projects: readonly string[],
): Promise<(Pick<AliasRow, "name" | "vector_store_id"> & { project_id: string })[]> {
  const { rows } = await client.query<Pick<AliasRow, "name" | "vector_store_id"> & { project_id: string }>({
    name: "find_aliases",
    text: `select project_id, name, vector_store_id from ${tables.aliases} as alias
      where project_id = any($1::text[]) and not exists (
        select from ${tables.vectorStores} as store
        where store.id = case project_id when '${DEFAULT_PROJECT}' then alias.name else project_id || '/' || alias.name end)`,
    values: [projects],
  });
  return rows;
}
