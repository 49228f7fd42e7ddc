import { dropOwnTable, lockIndex } from "../indexes/removal.ts";
import { deleteIngests } from "../ingest/ingests.ts";
import { attachmentLock, lockExclusive } from "../postgres/advisory.ts";
import type { Client } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { deleteEmbeddings } from "../storage/embeddings.ts";
import { openForWriting } from "../storage/placement.ts";
import { deleteStore } from "../storage/stores.ts";
import { deleteWords } from "../storage/words.ts";
import { deleteAttachments } from "../vector-store-files/rows.ts";
import { removeJob } from "./reembedding/removal.ts";

/**
 * Deletes a store and its contents. This must be the transaction's first call, because of the lock order.
 * Returns false when the store does not exist; the transaction must then be rolled back.
 */
export async function removeStore(client: Client, tables: Tables, id: string): Promise<boolean> {
  // Takes the shared placement lock: the index worker cannot switch the store to another table during the
  // deletion, which would leave that table orphaned.
  if ((await openForWriting(client, tables, id)) === undefined) return false;
  return removeContents(client, tables, id, () => deleteStore(client, tables, id));
}

/**
 * Deletes a store's contents: attachments, embeddings, its own tables, ingests. `claim` locks or deletes the
 * store's row; when `claim` resolves to false, the result is false and the transaction must be rolled back.
 *
 * Lock order: attachments, index catalog, the store's row, embeddings. Every transaction that takes more than
 * one of these locks must follow the same order, otherwise two transactions can deadlock.
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
  await deleteWords(client, tables, id);
  await dropOwnTable(client, tables, id);
  await removeJob(client, tables, id);
  await deleteIngests(client, tables, id);
  return true;
}
