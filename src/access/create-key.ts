import { makeIdentifier } from "../api/identifier.ts";
import { failedPrecondition } from "../errors.ts";
import type { Database } from "../postgres/database.ts";
import { transaction } from "../postgres/transaction.ts";
import { makeKey } from "./key.ts";
import { insertKey, type KeyRow } from "./keys.ts";
import type { ProjectRow } from "./projects.ts";
import type { AskedKey } from "./request.ts";

/** Makes a key for a project and returns its row, and the key itself, which is not stored. */
export async function createKey(
  { pool, tables }: Database,
  project: ProjectRow,
  asked: AskedKey,
): Promise<{ row: KeyRow; value: string }> {
  if (project.archived_at !== null)
    throw failedPrecondition("INVALID_VALUE", `Project '${project.id}' is archived.`, "project_id");
  const { name, scopes, storeIds, expiresInSeconds } = asked;
  const { value, digest, redacted } = makeKey();
  const key = { ...makeIdentifier("key"), projectId: project.id, name, scopes, storeIds, expiresInSeconds };
  const row = await transaction(pool, (client) => insertKey(client, tables, { ...key, digest, redacted }));
  return { row, value };
}
