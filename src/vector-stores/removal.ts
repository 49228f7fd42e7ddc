import { dropOwnTable, lockIndex } from "../indexes/removal.ts";
import { deleteIngests } from "../ingest/ingests.ts";
import { attachmentLock, lockExclusive } from "../postgres/advisory.ts";
import type { Client } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { deleteEmbeddings } from "../storage/embeddings.ts";
import { openForWriting } from "../storage/placement.ts";
import { deleteStore } from "../storage/stores.ts";
import { deleteAttachments } from "../vector-store-files/rows.ts";

/**
 * Deletes a store with everything in it, in a transaction that begins with this call. False when there is no such
 * store; then the transaction has to be rolled back.
 */
export async function removeStore(client: Client, tables: Tables, id: string): Promise<boolean> {
  // The shared placement lock keeps the index worker from switching the rows to another table meanwhile.
  if ((await openForWriting(client, tables, id)) === undefined) return false;
  return removeContents(client, tables, id, () => deleteStore(client, tables, id));
}

/**
 * Deletes all that a store holds: files, embeddings, its own table, ingests. `claim` locks or deletes the store's row
 * and says whether to go on; where it is false, so is the result, and the transaction has to be rolled back.
 *
 * Everybody who locks more than one of these takes the locks in this order, so that no two transactions deadlock: the
 * attachments, the index catalog, the store's row, its embeddings.
 */
export async function removeContents(
  client: Client,
  tables: Tables,
  id: string,
  claim: () => Promise<boolean>,
): Promise<boolean> {
  await lockExclusive(client, tables, attachmentLock(id));
  await deleteAttachments(client, tables, id);
  await lockIndex(client, tables, id);
  if (!(await claim())) return false;
  await deleteEmbeddings(client, tables, id);
  await dropOwnTable(client, tables, id);
  await deleteIngests(client, tables, id);
  return true;
}
