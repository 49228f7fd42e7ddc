import { Buffer } from "node:buffer";
import type pg from "pg";
import { to as copyTo } from "pg-copy-streams";

/** Signature, flags and the length of an extension, then a row's number of columns, then the length of its first one. */
const LENGTH_POSITION = 19 + 2;
const VALUE_POSITION = LENGTH_POSITION + 4;
/** In place of a row: the end of the data. "Binary Format" in https://www.postgresql.org/docs/17/sql-copy.html */
const END = -1;

/**
 * The one bytea that a query selects; undefined when it selects no row. By binary COPY, several times as fast as a
 * query, whose answer node-postgres takes as hexadecimal text only. COPY takes no parameters: quote what is put in.
 */
export async function readBytea(client: pg.PoolClient, select: string): Promise<Buffer | undefined> {
  const chunks: Buffer[] = [];
  for await (const chunk of client.query(copyTo(`copy (${select}) to stdout (format binary)`)))
    chunks.push(chunk as Buffer);
  const data = Buffer.concat(chunks);
  if (data.readInt16BE(LENGTH_POSITION - 2) === END) return undefined;
  return data.subarray(VALUE_POSITION, VALUE_POSITION + data.readInt32BE(LENGTH_POSITION));
}
