import { visibleTo, type Readers } from "../filters/readers.ts";
import type { Database } from "../postgres/database.ts";
import { listEmbeddings, type EmbeddingRow } from "../storage/embeddings.ts";
import { readPlaced } from "../storage/placement.ts";
import { requireStore } from "../storage/require.ts";

/** Rows and bytes per page of an export, which waits in memory until the client has read it. */
const EXPORT_PAGE = {
  rowsMax: 100,
  bytesMax: 512 * 1024,
  descending: false,
  backward: false,
  includeEmbedding: true,
};

/**
 * Reads all rows of a store that callers with `readers` may read, in the order of their ids, after the one with the id
 * `after`. Holds a page of them.
 */
export async function* exportRows(
  { pool, tables }: Database,
  storeId: string,
  after: string | undefined,
  readers: Readers,
): AsyncGenerator<EmbeddingRow, void> {
  const store = await requireStore(pool, tables, storeId);
  const condition = visibleTo(readers);
  for (let last = after; ;) {
    const rows = await readPlaced(pool, tables, store, (client, placed) =>
      listEmbeddings(client, placed, store.id, { ...EXPORT_PAGE, condition, after: last }),
    );
    yield* rows;
    // A page may be shorter than its maximum for its bytes.
    if (rows.length === 0) return;
    last = rows.at(-1)?.id;
  }
}
