import type { Database } from "../postgres/database.ts";
import type { Buckets } from "./buckets.ts";
import type { FileRow } from "./rows.ts";

/** Hours without a new part after which an upload counts as one whose process died. */
const UPLOAD_IDLE_HOURS = 2;
/** A deletion that is under way is left to the process that does it. */
const DELETION_IDLE_MINUTES = 1;

/** Removes the bytes of a file that is deleted, then its row. An abort leaves those in a bucket where they are. */
export async function removeBytes(
  { pool, tables }: Database,
  buckets: Buckets,
  file: Pick<FileRow, "id" | "object_url">,
  signal?: AbortSignal,
): Promise<void> {
  if (file.object_url !== null) await buckets.remove(file.object_url, signal);
  await pool.query(
    `with gone as (delete from ${tables.files} where id = $1 and state = 'deleted' returning id)
     delete from ${tables.fileParts} where file_id in (select id from gone)`,
    [file.id],
  );
}

/**
 * Removes what dying processes have left: the bytes of files that were deleted, and uploads without a sign of life for
 * two hours. At most `rowsMax` of them; returns how many there were, so that fewer than `rowsMax` mean there are no
 * more. Those that cannot be removed are passed over until the others have been tried; then the first error is thrown.
 */
export async function removeLeftovers(
  database: Database,
  buckets: Buckets,
  rowsMax: number,
  signal?: AbortSignal,
): Promise<number> {
  const { pool, tables } = database;
  const result = await pool.query<Pick<FileRow, "id" | "object_url">>(
    `update ${tables.files} set state = 'deleted', updated_at = now()
     where id in (
       select id from ${tables.files}
       where state = 'uploading' and updated_at < now() - ${UPLOAD_IDLE_HOURS} * interval '1 hour'
         or state = 'deleted' and updated_at < now() - ${DELETION_IDLE_MINUTES} * interval '1 minute'
       order by updated_at limit $1 for update skip locked)
     returning id, object_url`,
    [rowsMax],
  );
  const errors: unknown[] = [];
  for (const file of result.rows)
    await removeBytes(database, buckets, file, signal).catch((error: unknown) => errors.push(error));
  if (errors.length > 0) throw errors[0];
  return result.rows.length;
}
