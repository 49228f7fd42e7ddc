import { makeIdentifier } from "../api/identifier.ts";
import { alreadyExists, failedPrecondition } from "../errors.ts";
import type { Database } from "../postgres/database.ts";
import { transaction } from "../postgres/transaction.ts";
import { certificateDigest, makeKey } from "./key.ts";
import { freeDigest, insertKey, type KeyRow } from "./keys.ts";
import type { ProjectRow } from "./projects.ts";
import type { AskedKey } from "./request.ts";

/**
 * Makes a key for a project and returns its row, and the key itself, which is not stored; undefined for the rights of a
 * certificate's holders. Throws ALREADY_EXISTS when the certificate has rights.
 */
export async function createKey(
  { pool, tables }: Database,
  project: ProjectRow,
  asked: AskedKey,
): Promise<{ row: KeyRow; value: string | undefined }> {
  if (project.archived_at !== null)
    throw failedPrecondition("INVALID_VALUE", `Project '${project.id}' is archived.`, "project_id");
  const { certificateSubject: subject } = asked;
  const { value, digest, redacted } =
    subject === null ? makeKey() : { value: undefined, digest: certificateDigest(subject), redacted: "" };
  const key = { ...makeIdentifier("key"), projectId: project.id, ...asked, digest, redacted };
  const row = await transaction(pool, async (client) => {
    if (subject !== null) await freeDigest(client, tables, digest);
    const inserted = await insertKey(client, tables, key);
    if (inserted !== undefined) return inserted;
    throw alreadyExists(`The certificate's subject '${subject}' has a key already.`, "certificate_subject");
  });
  return { row, value };
}
