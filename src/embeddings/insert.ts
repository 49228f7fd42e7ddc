import type pg from "pg";
import { CopyEncoder, copyRows, recycle } from "../postgres/copy.ts";
import type { Tables } from "../postgres/tables.ts";
import type { Row } from "./row.ts";

/**
 * Bytes after which a COPY ends and the next one begins. The embedded database buffers a whole COPY in
 * memory, and on Postgres a single COPY is not faster than one per some hundred rows.
 */
const SEGMENT_BYTES = 1024 * 1024;

/**
 * Inserts rows by binary COPY, in the caller's transaction. Throws Postgres' unique violation for an existing
 * id.
 */
export async function insertRows(
  client: pg.PoolClient,
  tables: Tables,
  storeId: string,
  rows: readonly Row[],
): Promise<void> {
  const columns = [
    tables.vectorStoreId,
    tables.id,
    tables.content,
    tables.embedding,
    tables.metadata,
    tables.createdAt,
  ];
  const statement = `copy ${tables.embeddings} (${columns.join(", ")}) from stdin (format binary)`;
  const encoder = new CopyEncoder();
  const send = async () => {
    const segment = encoder.takeSegment();
    await copyRows(client, statement, segment);
    recycle(segment);
  };
  for (const row of rows) {
    encoder.startRow(columns.length);
    encoder.text(storeId);
    encoder.text(row.id);
    encoder.text(row.content);
    encoder.vector(row.vector);
    encoder.jsonb(row.metadata);
    encoder.timestamptz(row.createdAt);
    if (encoder.bytes >= SEGMENT_BYTES) await send();
  }
  if (encoder.rows > 0) await send();
}
