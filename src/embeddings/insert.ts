import { getDefaultHighWaterMark } from "node:stream";
import type pg from "pg";
import { CopyEncoder, copyRows, recycle } from "../postgres/copy.ts";
import type { Database } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import type { Row } from "./row.ts";

/**
 * Bytes after which a COPY ends and the next one begins. The embedded database buffers a whole COPY in memory. Postgres
 * takes all rows in one COPY: at the end of each, both sides would wait for the other.
 */
const COPY_BYTES_MAX = { embedded: 1024 * 1024, postgres: Infinity };

/**
 * Chunks of this size have left the process when `copyRows` asks for the next one, because no stream on their way
 * buffers as much without waiting (`writableHighWaterMark`). Smaller ones may be in a buffer until the end of the COPY,
 * and so may all chunks with the embedded database.
 */
const SURELY_SENT_BYTES = 2 * getDefaultHighWaterMark(false);

/**
 * Inserts rows by binary COPY, in the caller's transaction. Rows are encoded while those before them are sent, so that
 * Postgres works at the same time; `betweenChunks` is awaited each time 256 KiB are encoded. Throws Postgres' unique
 * violation for an existing id.
 */
export async function insertRows(
  client: pg.PoolClient,
  tables: Tables,
  kind: Database["kind"],
  storeId: string,
  rows: readonly Row[],
  betweenChunks?: () => Promise<void> | undefined,
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
  let index = 0;
  async function* encode(): AsyncGenerator<Buffer> {
    const encoder = new CopyEncoder();
    while (index < rows.length && encoder.bytes < COPY_BYTES_MAX[kind]) {
      const row = rows[index++] as Row;
      encoder.startRow(columns.length);
      encoder.text(storeId);
      encoder.text(row.id);
      encoder.text(row.content);
      encoder.vector(row.vector);
      encoder.jsonb(row.metadata);
      encoder.timestamptz(row.createdAt);
      const full = encoder.takeFull();
      if (full.length === 0) continue;
      yield* send(full);
      await betweenChunks?.();
    }
    yield* send(encoder.takeSegment());
  }
  let held: Buffer[] = [];
  function* send(chunks: readonly Buffer[]): Generator<Buffer> {
    for (const chunk of chunks) {
      yield chunk;
      if (kind === "postgres" && chunk.length >= SURELY_SENT_BYTES) recycle([chunk]);
      else held.push(chunk);
    }
  }
  while (index < rows.length) {
    await copyRows(client, statement, encode());
    recycle(held);
    held = [];
  }
}
