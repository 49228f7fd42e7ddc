import { Buffer } from "node:buffer";
import pg from "pg";
import type { ByteRange } from "../api/byte-range.ts";
import { fileNotFound } from "../errors.ts";
import { readBytea } from "../postgres/bytea.ts";
import type { Database } from "../postgres/database.ts";
import { readTransaction } from "../postgres/transaction.ts";

/** Bytes of each part of a file except the last; 006_files.sql has the measurements behind the choice. */
export const PART_BYTES = 256 * 1024;

/**
 * Splits a stream into parts of PART_BYTES; an empty stream yields no part. Double buffering: a part's memory
 * is reused once the part after the next is requested. With a new buffer per part, garbage collection took
 * most of an upload's time.
 */
export async function* cutParts(content: AsyncIterable<Uint8Array>): AsyncGenerator<Buffer> {
  let part = Buffer.allocUnsafe(PART_BYTES);
  let other: typeof part | undefined;
  let filled = 0;
  for await (const chunk of content) {
    for (let rest = chunk; rest.length > 0;) {
      const taken = rest.subarray(0, PART_BYTES - filled);
      part.set(taken, filled);
      filled += taken.length;
      rest = rest.subarray(taken.length);
      if (filled < PART_BYTES) continue;
      yield part;
      [part, other] = [other ?? Buffer.allocUnsafe(PART_BYTES), part];
      filled = 0;
    }
  }
  if (filled > 0) yield part.subarray(0, filled);
}

/**
 * Reads a byte range of a file in the database with one query per part, so that a slow client holds no
 * connection between parts. Throws NOT_FOUND when the file is deleted during the read.
 */
export async function* readParts(
  { pool, tables }: Database,
  id: string,
  { offset, length }: ByteRange,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  const end = offset + length;
  for (let position = offset; position < end;) {
    const part = Math.floor(position / PART_BYTES);
    const select = `select data from ${tables.fileParts} where file_id = ${pg.escapeLiteral(id)} and part = ${part}`;
    const data = await readTransaction(pool, (client) => readBytea(client, select), signal);
    if (data === undefined) throw fileNotFound(id);
    const start = part * PART_BYTES;
    yield data.subarray(position - start, end - start);
    position = start + PART_BYTES;
  }
}
