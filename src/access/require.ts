import type { Principal } from "../api/principal.ts";
import { notFound, otherProject } from "../errors.ts";
import type { Database } from "../postgres/database.ts";
import { isStorable } from "../postgres/text.ts";
import { DEFAULT_PROJECT } from "../store-id.ts";
import { findProject, type ProjectRow } from "./projects.ts";

/** The only project that a caller sees; undefined: all, for callers of the default project. */
export function ownOnly({ project }: Principal): string | undefined {
  return project === DEFAULT_PROJECT ? undefined : project;
}

/** Throws PERMISSION_DENIED for a caller of another project than the default. */
export function requireDefault(caller: Principal): void {
  if (ownOnly(caller) !== undefined) throw otherProject();
}

/** Reads a project; throws NOT_FOUND when it does not exist for the caller. */
export async function requireProject(
  { pool, tables }: Database,
  caller: Principal,
  id: string,
): Promise<ProjectRow> {
  const isVisible = isStorable(id) && [undefined, id].includes(ownOnly(caller));
  const row = isVisible ? await findProject(pool, tables, id) : undefined;
  if (row === undefined) throw projectNotFound(id);
  return row;
}

/** NOT_FOUND for a project. */
export function projectNotFound(id: string) {
  return notFound(`No project found with id '${id}'.`, "project_id");
}
