import type { Database } from "../postgres/database.ts";
import { transaction } from "../postgres/transaction.ts";
import type { Buckets } from "./buckets.ts";
import type { FileRow } from "./rows.ts";

/** Hours without a new part or heartbeat after which an upload counts as abandoned by a crashed process. */
const UPLOAD_IDLE_HOURS = 2;
/**
 * Minutes before a deleted file's bytes count as left behind: until then, the process that deleted it removes
 * them.
 */
const DELETION_IDLE_MINUTES = 1;

/**
 * Removes the bytes of a deleted file, then its row. When the bucket fails or `signal` aborts, the object and
 * the row stay, for `removeLeftovers` to retry.
 */
export async function removeBytes(
  { pool, tables }: Database,
  buckets: Buckets,
  file: Pick<FileRow, "id" | "object_url">,
  signal?: AbortSignal,
): Promise<void> {
  if (file.object_url !== null) await buckets.remove(file.object_url, signal);
  await transaction(pool, (client) =>
    client.query(
      `with gone as (delete from ${tables.files} where id = $1 and state = 'deleted' returning id)
     delete from ${tables.fileParts} where file_id in (select id from gone)`,
      [file.id],
    ),
  );
}

/**
 * Removes what crashed processes have left behind: the bytes of deleted files, and uploads without a
 * heartbeat for two hours. Takes at most `rowsMax` files, least recently tried first, and returns how many it
 * took: fewer than `rowsMax` means that no more are left. A failed removal does not stop the others; the
 * first error is thrown at the end.
 */
export async function removeLeftovers(
  database: Database,
  buckets: Buckets,
  rowsMax: number,
  signal?: AbortSignal,
): Promise<number> {
  const { pool, tables } = database;
  const result = await transaction(pool, (client) =>
    client.query<Pick<FileRow, "id" | "object_url">>(
      `update ${tables.files} set state = 'deleted', updated_at = now()
     where id in (
       select id from ${tables.files}
       where state = 'uploading' and updated_at < now() - ${UPLOAD_IDLE_HOURS} * interval '1 hour'
         or state = 'deleted' and updated_at < now() - ${DELETION_IDLE_MINUTES} * interval '1 minute'
       order by updated_at limit $1 for update skip locked)
     returning id, object_url`,
      [rowsMax],
    ),
  );
  const errors: unknown[] = [];
  for (const file of result.rows)
    await removeBytes(database, buckets, file, signal).catch((error: unknown) => errors.push(error));
  if (errors.length > 0) throw errors[0];
  return result.rows.length;
}
