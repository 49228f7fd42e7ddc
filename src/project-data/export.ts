import type { Database } from "../postgres/database.ts";
import { openFile } from "../files/content.ts";
import type { Buckets } from "../files/buckets.ts";
import { findFilePosition, listFiles, type FileRow } from "../files/rows.ts";
import type { Position } from "../postgres/keyset.ts";
import { listEmbeddings, type EmbeddingRow } from "../storage/embeddings.ts";
import { readPlaced } from "../storage/placement.ts";
import { findStorePosition, listStores, type VectorStoreRow } from "../storage/stores.ts";
import { findAttachmentPosition, listAttachments } from "../vector-store-files/list.ts";
import type { AttachmentRow } from "../vector-store-files/rows.ts";

/** One item of an export, as it is stored. */
export type StoredItem =
  | { kind: "file"; row: FileRow }
  | { kind: "data"; bytes: Uint8Array }
  | { kind: "store"; row: VectorStoreRow }
  | { kind: "attachment"; row: AttachmentRow }
  | { kind: "row"; row: EmbeddingRow };

/** Files, stores and attachments per page, and rows, with the bytes that end a page: what is held in memory. */
const PAGE = 100;
const ROWS = { rowsMax: 100, bytesMax: 512 * 1024 };

/** Reads everything that a project has, page by page; no connection is held while the caller takes an item. */
export async function* exportProject(
  database: Database,
  buckets: Buckets,
  project: string,
  signal: AbortSignal,
): AsyncGenerator<StoredItem> {
  const { pool, tables } = database;
  const first = { rowsMax: PAGE, descending: false, backward: false };
  const listFilesAfter = async (after: Position | undefined) =>
    listFiles(pool, tables, { ...first, after, project });
  for await (const row of inPages(listFilesAfter, async ({ id }) =>
    findFilePosition(pool, tables, id, project),
  )) {
    yield { kind: "file", row };
    for await (const bytes of openFile(database, buckets, row, undefined, signal))
      yield { kind: "data", bytes };
  }
  const owner = { project, storeIds: undefined };
  const listStoresAfter = async (after: Position | undefined) =>
    listStores(pool, tables, owner, { ...first, after });
  const placeOf = async ({ id }: VectorStoreRow) => findStorePosition(pool, tables, id);
  for await (const row of inPages(listStoresAfter, placeOf)) yield* exportStore(database, row);
}

async function* exportStore(database: Database, store: VectorStoreRow): AsyncGenerator<StoredItem> {
  const { pool, tables } = database;
  const { id } = store;
  yield { kind: "store", row: store };
  const first = { rowsMax: PAGE, descending: false, backward: false };
  const listAfter = async (after: Position | undefined) =>
    listAttachments(pool, tables, id, { ...first, after });
  const placeOf = async (row: AttachmentRow) =>
    findAttachmentPosition(pool, tables, id, row.file_id, undefined);
  for await (const row of inPages(listAfter, placeOf)) yield { kind: "attachment", row };
  const page = { ...ROWS, descending: false, backward: false, includeEmbedding: true };
  for (let after: string | undefined; ;) {
    const rows = await readPlaced(pool, tables, store, (client, placed) =>
      listEmbeddings(client, placed, id, { ...page, after }),
    );
    for (const row of rows) yield { kind: "row", row };
    if (rows.length === 0) return;
    after = rows.at(-1)?.id;
  }
}

/** Reads a list to its end. A list position has microseconds, which the rows have not. */
async function* inPages<Row extends { created_at: Date }>(
  list: (after: Position | undefined) => Promise<Row[]>,
  positionOf: (row: Row) => Promise<Position | undefined>,
): AsyncGenerator<Row> {
  for (let after: Position | undefined; ;) {
    const rows = await list(after);
    const last = rows.at(-1);
    // Read before the caller takes the rows, who may be slow: the last one may be deleted meanwhile.
    const next = last && (await positionOf(last));
    yield* rows;
    if (next === undefined || rows.length < PAGE) return;
    after = next;
  }
}
