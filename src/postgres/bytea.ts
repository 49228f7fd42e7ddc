import { Buffer } from "node:buffer";
import type pg from "pg";
import { to as copyTo } from "pg-copy-streams";

/**
 * Offsets into binary COPY output: a header of 19 bytes (signature, flags, length of the header extension),
 * the first row's column count (int16), the length of its first column (int32), then the value.
 */
const LENGTH_POSITION = 19 + 2;
const VALUE_POSITION = LENGTH_POSITION + 4;
/** A column count of -1 ends the data. "Binary Format" in https://www.postgresql.org/docs/17/sql-copy.html */
const END = -1;

/**
 * Reads the bytea of a query that selects one column and at most one row; undefined when it selects no row.
 * Uses binary COPY: several times as fast as a plain query, whose bytea node-postgres receives as hexadecimal
 * text. COPY takes no parameters, so the caller must quote every value inside `select`.
 */
export async function readBytea(client: pg.PoolClient, select: string): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  for await (const chunk of client.query(copyTo(`copy (${select}) to stdout (format binary)`)))
    chunks.push(chunk as Buffer);
  const data = Buffer.concat(chunks);
  if (data.readInt16BE(LENGTH_POSITION - 2) === END) return undefined;
  return data.subarray(VALUE_POSITION, VALUE_POSITION + data.readInt32BE(LENGTH_POSITION));
}
