import { Buffer } from "node:buffer";
import pg from "pg";
import type { ByteRange } from "../api/byte-range.ts";
import { fileNotFound } from "../errors.ts";
import { readBytea } from "../postgres/bytea.ts";
import type { Database } from "../postgres/database.ts";
import { cancellable } from "../postgres/transaction.ts";

/** Bytes of one part of a file, all but its last: see 006_files.sql for the choice. */
export const PART_BYTES = 256 * 1024;

/**
 * Cuts bytes into parts; nothing comes of no bytes. A part is good until the next but one is asked for: with a new
 * buffer for each, the garbage collector took most of an upload's time.
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
 * Reads bytes of a file that is in the database, one part at a time, so that no connection is held while whoever asked
 * for them takes them in. NOT_FOUND when the file is deleted meanwhile.
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
    const data = await cancellable(pool, signal, (client) =>
      readBytea(
        client,
        `select data from ${tables.fileParts} where file_id = ${pg.escapeLiteral(id)} and part = ${part}`,
      ),
    );
    if (data === undefined) throw fileNotFound(id);
    const start = part * PART_BYTES;
    yield data.subarray(position - start, end - start);
    position = start + PART_BYTES;
  }
}
