import type pg from "pg";
import { CopyEncoder, copyRows, recycle } from "../postgres/copy.ts";
import type { Tables } from "../postgres/tables.ts";
import type { Row } from "./row.ts";

/**
 * Bytes after which a COPY is ended and the next begun: the embedded database holds a whole COPY
 * in memory, and on Postgres one COPY of everything is no faster than one per some hundred rows.
 */
const SEGMENT_BYTES = 1024 * 1024;

/**
 * Stores new rows by binary COPY, inside the caller's transaction. An id that is taken fails with
 * Postgres's unique violation.
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
