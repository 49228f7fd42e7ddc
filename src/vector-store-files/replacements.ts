import { lockExclusive } from "../postgres/advisory.ts";
import type { Client } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { projectOf } from "../store-id.ts";
import { PROJECT } from "./claims.ts";
import { BEGINNING, COLUMNS, type AttachmentRow, type Attributes, type NewAttachment } from "./rows.ts";

/** A file that is to take the place of another one. */
export interface Replacement extends NewAttachment {
  /** The other one. */
  replaced: Pick<AttachmentRow, "file_id" | "attributes">;
  /** Whether the attributes are the other one's. */
  inheritsAttributes: boolean;
}

/** The rows of a replacement, all locked. */
export interface LockedReplacement {
  replaced: AttachmentRow | undefined;
  /** The new file, when it is attached already. */
  present: AttachmentRow | undefined;
  /** Other files in progress that would replace the same file. */
  rivals: AttachmentRow[];
}

/**
 * Locks the row of a file and those of the files that replace it or are about to, until the end of the transaction. All
 * are locked by one statement in the order of their ids, as everything that locks several files does. Calls for one store wait for each other
 * before: each sees what the one before has added.
 */
export async function lockForReplacement(
  client: Client,
  tables: Tables,
  storeId: string,
  { fileId, newFileId }: { fileId: string; newFileId: string },
): Promise<LockedReplacement> {
  await lockExclusive(client, tables, `pgquiver replacements ${storeId}`);
  const result = await client.query<AttachmentRow>(
    `select ${COLUMNS} from ${tables.vectorStoreFiles}
     where vector_store_id = $1 and file_id = any(array[$2, $3]::text[] || array(
       select file_id from ${tables.vectorStoreFiles}
       where ${PROJECT} = $4 and vector_store_id = $1 and status = 'in_progress' and due_at = 'infinity'
         and replaces ->> 'fileId' = $2))
     order by file_id for update`,
    [storeId, fileId, newFileId, projectOf(storeId)],
  );
  return {
    replaced: result.rows.find((row) => row.file_id === fileId),
    present: result.rows.find((row) => row.file_id === newFileId),
    rivals: result.rows.filter((row) => row.file_id !== fileId && row.file_id !== newFileId),
  };
}

/** Cancels files in progress whose rows are locked; the caller must update the store's counts. */
export async function cancelLocked(
  client: Client,
  tables: Tables,
  files: readonly AttachmentRow[],
): Promise<void> {
  for (const { vector_store_id: storeId, file_id: fileId } of files) {
    await client.query(
      `update ${tables.vectorStoreFiles} set status = 'cancelled', claim = null where vector_store_id = $1 and file_id = $2`,
      [storeId, fileId],
    );
  }
}

/**
 * Attaches a file that takes another one's place when it is processed; one that failed or was cancelled begins again.
 * Returns false when it is attached otherwise.
 */
export async function insertReplacement(
  client: Client,
  tables: Tables,
  storeId: string,
  { fileId, attributes, chunking, replaced, inheritsAttributes }: Replacement,
): Promise<boolean> {
  const inherited = inheritsAttributes ? { inherited: replaced.attributes } : {};
  const result = await client.query(
    `insert into ${tables.vectorStoreFiles} as file
       (vector_store_id, file_id, attributes, chunking, replaces, due_at, replacement_due_at)
     values ($1, $2, $3::jsonb, $4::jsonb, $5::jsonb, 'infinity', now())
     on conflict (vector_store_id, file_id) do update set ${BEGINNING}, place = 0, attributes = excluded.attributes,
       chunking = excluded.chunking, replaces = excluded.replaces, due_at = excluded.due_at,
       replacement_due_at = excluded.replacement_due_at
     where file.status in ('failed', 'cancelled')`,
    [
      storeId,
      fileId,
      attributes === null ? null : JSON.stringify(attributes),
      JSON.stringify(chunking),
      JSON.stringify({ fileId: replaced.file_id, ...inherited }),
    ],
  );
  return result.rowCount === 1;
}

/** A file that takes another one's place in this transaction, and the other one. Both rows are locked. */
export interface Succession {
  attributes: Attributes | null;
  /** The other one; undefined: it was removed meanwhile. */
  replaced: AttachmentRow | undefined;
}

/**
 * Locks the rows of a claim's file and of the file that it replaces until the end of the transaction; undefined when the
 * claim is no longer valid. Gives the new file the other one's present attributes where it has inherited them, unless they were
 * changed since.
 */
export async function lockSuccession(
  client: Client,
  tables: Tables,
  {
    vector_store_id: storeId,
    file_id: fileId,
    claim,
  }: { vector_store_id: string; file_id: string; claim: string },
  replacedFileId: string,
): Promise<Succession | undefined> {
  const result = await client.query<AttachmentRow & { is_held: boolean; inherits: boolean }>(
    `select ${COLUMNS}, coalesce(claim = $4, false) as is_held,
       coalesce(replaces -> 'inherited' = coalesce(attributes, 'null'), false) as inherits
     from ${tables.vectorStoreFiles} where vector_store_id = $1 and file_id in ($2, $3)
     order by file_id for update`,
    [storeId, fileId, replacedFileId, claim],
  );
  const next = result.rows.find((row) => row.file_id === fileId);
  if (next?.is_held !== true) return undefined;
  const replaced = result.rows.find((row) => row.file_id === replacedFileId);
  const inherits = next.inherits && replaced !== undefined;
  return { replaced, attributes: inherits ? replaced.attributes : next.attributes };
}
