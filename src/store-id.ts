/**
 * The ids of stores, which are unique in their project. To callers of every project a store is `faq`; in the database
 * it is `faq` in the default project, and `proj_1/faq` in the project `proj_1`. No id that a caller chooses has a
 * slash, so no two stores meet, and tables, locks and caches that name a store keep projects apart by themselves.
 */

/** The project of the environment's keys, and of everything that was stored before there were projects. */
export const DEFAULT_PROJECT = "default";

/** Whose stores are meant: a project's, all or some of them. */
export interface StoreOwner {
  project: string;
  /** The only stores that are meant, by the ids callers use; undefined: all of the project. */
  storeIds: ReadonlySet<string> | undefined;
}

/**
 * Converts the id that a caller sent to the stored one. To a store that the caller must not see belongs an id that no
 * store has: so the reply is, in every respect, that to an id that does not exist.
 */
export function storedId({ project, storeIds }: StoreOwner, id: string): string {
  if (storeIds !== undefined && !storeIds.has(id)) return `/${id}`;
  if (project !== DEFAULT_PROJECT) return `${project}/${id}`;
  return id.includes("/") ? `/${id}` : id;
}

/** Converts a stored id to the one that callers know. */
export function localId(stored: string): string {
  return stored.slice(stored.indexOf("/") + 1);
}

/** Returns the project of a stored id. */
export function projectOf(stored: string): string {
  const end = stored.indexOf("/");
  return end === -1 ? DEFAULT_PROJECT : stored.slice(0, end);
}
