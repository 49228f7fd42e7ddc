import { Buffer } from "node:buffer";
import { pipeline } from "node:stream/promises";
import type pg from "pg";
import { from as copyFrom } from "pg-copy-streams";

/**
 * Chunk size, measured: chunks of 64 to 256 KiB all copy at the same speed, smaller and much larger ones more
 * slowly.
 */
const chunkBytes = 256 * 1024;

// "Binary Format" in https://www.postgresql.org/docs/17/sql-copy.html
const header = Buffer.from("PGCOPY\n\xff\r\n\0" + "\0".repeat(8), "latin1");
const trailerBytes = 2;

const nothing: readonly Buffer[] = [];

const vectorHeaderBytes = 4;

const postgresEpochMs = Date.UTC(2000, 0, 1);

/**
 * Encodes rows for `copy … from stdin (format binary)`. Call `startRow`, then one writer per column in the
 * order of the statement's column list. The rows since the last `takeSegment` form a segment: the input of
 * one COPY.
 *
 * Does not validate what Postgres validates: dimensions, NaN, NUL in texts, JSON syntax. Discard an encoder
 * after a column writer has thrown: its buffer ends in half a row.
 */
export class CopyEncoder {
  #full: Buffer[] = [];
  /** Whether the segment's header was taken. */
  #isBegun = false;
  #fullBytes = 0;
  #chunk = Buffer.alloc(0);
  #position = 0;
  #rows = 0;

  /** Rows in the current segment. */
  get rows(): number {
    return this.#rows;
  }

  /** Bytes of the rows in the current segment, without the header and the trailer (21 bytes together). */
  get bytes(): number {
    return this.#fullBytes + this.#position;
  }

  /** Begins a row of `columnCount` columns. */
  startRow(columnCount: number): void {
    this.#reserve(2);
    this.#position = this.#chunk.writeInt16BE(columnCount, this.#position);
    this.#rows++;
  }

  /** A null in a column of any type. */
  null(): void {
    this.#startColumn(0, -1);
  }

  /** A column of type int4. */
  int4(value: number): void {
    this.#startColumn(4, 4);
    this.#position = this.#chunk.writeInt32BE(value, this.#position);
  }

  /** A column of type text, as UTF-8. A lone surrogate becomes U+FFFD. */
  text(value: string): void {
    this.#string(value, 0);
  }

  /** A column of type jsonb, from JSON text. */
  jsonb(json: string): void {
    this.#string(json, 1);
  }

  /** A column of type timestamptz, or of type timestamp in UTC. */
  timestamptz(value: Date): void {
    this.#startColumn(8, 8);
    this.#position = writeTimestamp(value, this.#chunk, this.#position);
  }

  /** A column of type vector, from numbers or from the bytes of little-endian float32. */
  vector(values: Float32Array | Uint8Array): void {
    const bytes = wireBytes(values);
    this.#startColumn(bytes, bytes);
    writeVector(values, this.#chunk, this.#position);
    this.#position += bytes;
  }

  /**
   * Returns the chunks of the current segment that are full, to be sent while the next rows are encoded. The first
   * chunk of a segment is its header.
   */
  takeFull(): readonly Buffer[] {
    return this.#full.length === 0 ? nothing : this.#takeChunks();
  }

  /**
   * Returns the segment, or what is left of it after `takeFull`, with header and trailer, ready for `copyRows`, and
   * starts the next one.
   */
  takeSegment(): Buffer[] {
    this.#reserve(trailerBytes);
    this.#position = this.#chunk.writeInt16BE(-1, this.#position);
    const segment = [...this.#takeChunks(), this.#chunk.subarray(0, this.#position)];
    this.#isBegun = false;
    this.#fullBytes = this.#position = this.#rows = 0;
    this.#chunk = Buffer.alloc(0);
    return segment;
  }

  #takeChunks(): Buffer[] {
    const chunks = this.#isBegun ? this.#full : [header, ...this.#full];
    this.#isBegun = true;
    this.#full = [];
    return chunks;
  }

  /** Writes the length of a column, -1 for null, with room for `bytes` to follow in the same chunk. */
  #startColumn(bytes: number, length: number): void {
    this.#reserve(4 + bytes);
    this.#position = this.#chunk.writeInt32BE(length, this.#position);
  }

  /** A string after `versionBytes` bytes of value 1. */
  #string(value: string, versionBytes: 0 | 1): void {
    // A UTF-16 unit takes at most three UTF-8 bytes. Counting the exact length costs a pass over the string,
    // so it is counted only when three bytes per unit do not fit into the chunk.
    const bytesMax = 3 * value.length;
    const fits = this.#position + 4 + versionBytes + bytesMax <= this.#chunk.length;
    this.#reserve(4 + versionBytes + (fits ? bytesMax : Buffer.byteLength(value)));
    const start = this.#position + 4;
    this.#chunk.fill(1, start, start + versionBytes);
    const bytes = versionBytes + this.#chunk.write(value, start + versionBytes);
    this.#chunk.writeInt32BE(bytes, this.#position);
    this.#position = start + bytes;
  }

  /** Makes room for `bytes` in one chunk. Rows may span chunks, columns do not. */
  #reserve(bytes: number): void {
    if (this.#position + bytes <= this.#chunk.length) return;
    if (this.#position > 0) this.#full.push(this.#chunk.subarray(0, this.#position));
    this.#fullBytes += this.#position;
    this.#chunk =
      (bytes <= chunkBytes ? spareChunks.pop() : undefined) ??
      Buffer.allocUnsafeSlow(Math.max(chunkBytes, bytes));
    this.#position = 0;
  }
}

/**
 * Free list of chunks: allocating a new one each time costs page faults and garbage collection, a fifth of a
 * bulk load's time.
 */
const spareChunks: Buffer<ArrayBuffer>[] = [];
const spareChunksMax = 32;

/**
 * Returns a segment's chunks to the free list. Call it after Postgres has acknowledged the COPY: they are
 * overwritten.
 */
export function recycle(segment: readonly Buffer[]): void {
  for (const { buffer } of segment) {
    if (buffer.byteLength === chunkBytes && spareChunks.length < spareChunksMax)
      spareChunks.push(Buffer.from(buffer as ArrayBuffer));
  }
}

/**
 * Streams `chunks` into `sql`, a COPY … FROM STDIN, with backpressure, and resolves to the number of rows
 * copied. On failure no row is copied; rejects with the source's error where the source threw, else with the
 * error of Postgres or of the connection. The client stays usable (in a failed transaction, if it was in one)
 * unless the connection is lost. The COPY holds its locks while it waits for the source, so the source should
 * have its chunks in memory.
 */
export async function copyRows(
  client: pg.PoolClient,
  sql: string,
  chunks: Iterable<Buffer> | AsyncIterable<Buffer>,
): Promise<number> {
  // EventEmitter throws an `error` event that has no listener: a connection lost while checked out would end
  // the process.
  client.on("error", ignore);
  const copy = client.query(copyFrom(sql));
  try {
    await pipeline(chunks, copy);
  } catch (error) {
    // The reply to an empty query shows that the COPY has ended; the query fails only when the connection is
    // lost. A lost connection may emit `error` more than once, so its client keeps the listener.
    await client.query("").then(() => client.off("error", ignore), ignore);
    throw error;
  }
  client.off("error", ignore);
  return copy.rowCount;
}

/**
 * Encodes a vector in pgvector's binary form, from numbers or from the bytes of little-endian float32, for a
 * query parameter `$1::vector`. Measured at 1,536 dimensions: a round trip takes 191 microseconds, of which
 * 69 are CPU time of this process; with the text form of the pgvector package (`toSql`) 749 and 300.
 */
export function encodeVector(values: Float32Array | Uint8Array): Buffer {
  const wire = Buffer.allocUnsafe(wireBytes(values));
  writeVector(values, wire, 0);
  return wire;
}

/** Encodes a timestamptz in binary form, for a query parameter or an array element. */
export function encodeTimestamp(value: Date): Buffer {
  const wire = Buffer.allocUnsafe(8);
  writeTimestamp(value, wire, 0);
  return wire;
}

/**
 * Decodes a vector from pgvector's binary form, as selected by `vector_send(column)`. Measured at 1,536
 * dimensions: a round trip takes 321 microseconds, of which 148 are CPU time of this process; with the text
 * form, parsed by the pgvector package, 592 and 257. So search, ingest, lists and export use the binary form,
 * everything else the package.
 */
export function decodeVector(wire: Buffer): Float32Array {
  const values = new Float32Array(wire.readInt16BE(0));
  const bytes = Buffer.from(values.buffer);
  wire.copy(bytes, 0, vectorHeaderBytes);
  bytes.swap32();
  return values;
}

/**
 * Int64 microseconds since 2000-01-01, big-endian (timestamptz_recv in src/backend/utils/adt/timestamp.c).
 */
function writeTimestamp(value: Date, target: Buffer, start: number): number {
  return target.writeBigInt64BE(BigInt(value.getTime() - postgresEpochMs) * 1000n, start);
}

function wireBytes(values: Float32Array | Uint8Array): number {
  return vectorHeaderBytes + values.byteLength;
}

/**
 * Int16 dimensions, int16 zero, then each float32, all big-endian (vector_recv in pgvector's src/vector.c).
 */
function writeVector(values: Float32Array | Uint8Array, target: Buffer, start: number): void {
  target.writeInt16BE(values.byteLength / 4, start);
  target.writeInt16BE(0, start + 2);
  const floats = target.subarray(start + vectorHeaderBytes, start + wireBytes(values));
  floats.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  floats.swap32();
}

function ignore(): void {}
