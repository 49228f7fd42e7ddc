import type { Principal } from "../api/principal.ts";
import type { Database } from "../postgres/database.ts";
import { transaction } from "../postgres/transaction.ts";
import { lockKey, updateKey, type KeyRow } from "./keys.ts";
import { requireWithin, type KeyChange } from "./request.ts";

/**
 * Changes a key of a project and returns its row; throws `missing` when there is none with this id, and PERMISSION_DENIED
 * when the key would then have rights that the caller has not: a longer life gives rights as well as a scope does.
 */
export async function changeKey(
  { pool, tables }: Database,
  caller: Principal,
  projectId: string,
  id: string,
  change: KeyChange,
  missing: () => Error,
): Promise<KeyRow> {
  return transaction(pool, async (client) => {
    const row = await lockKey(client, tables, projectId, id);
    if (row === undefined) throw missing();
    const { name = row.name, scopes = row.scopes, storeIds = row.store_ids, expiresInSeconds } = change;
    const { limits = row.limits } = change;
    const isMore =
      change.scopes !== undefined ||
      change.storeIds !== undefined ||
      change.limits !== undefined ||
      expiresInSeconds !== undefined;
    if (isMore) requireWithin(caller, { scopes, storeIds, limits });
    return updateKey(client, tables, row.id, { name, scopes, storeIds, expiresInSeconds, limits });
  });
}
