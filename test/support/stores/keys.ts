import { makeKey } from "../../../src/access/key.ts";
import { insertKey } from "../../../src/access/keys.ts";
import { insertProject } from "../../../src/access/projects.ts";
import { makeIdentifier } from "../../../src/api/identifier.ts";
import type { Limits } from "../../../src/api/rates/limits.ts";
import { SCOPE_WORDS } from "../../../src/api/scope.ts";
import type { Database } from "../../../src/postgres/database.ts";

/** Makes a project in the database and returns its id. */
export async function makeProject({ pool, tables }: Database): Promise<string> {
  return (await insertProject(pool, tables, { ...makeIdentifier("proj"), name: "A team" })).id;
}

/** Makes a key in the database and returns the key itself. Default: with all scopes, for all stores. */
export async function makeTestKey(
  { pool, tables }: Database,
  projectId: string,
  scopes: readonly string[] = SCOPE_WORDS,
  storeIds: readonly string[] | null = null,
  limits: Limits | null = null,
): Promise<string> {
  const { value, digest, redacted } = makeKey();
  const row = { ...makeIdentifier("key"), projectId, name: "k", digest, redacted, scopes, storeIds, limits };
  await insertKey(pool, tables, { ...row, expiresInSeconds: null });
  return value;
}
