import { CopyEncoder, copyRows, recycle } from "../postgres/copy.ts";
import type { Client, Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import type { Attributes } from "./rows.ts";

/** A piece of a file's text with its vector. */
export interface Chunk {
  /** Its place in the file, from 0. */
  index: number;
  content: string;
  vector: Float32Array;
}

/** The file whose chunks are written. */
export interface Chunked {
  storeId: string;
  fileId: string;
  attributes: Attributes | null;
}

/** Bytes after which a COPY is ended and the next begun: the embedded database holds a whole COPY in memory. */
const SEGMENT_BYTES = 1024 * 1024;

/**
 * Chunks that one statement changes or deletes. Where a bitmap of rows outgrows work_mem, Postgres compares each row
 * with all ids again: that of 200,000 chunks did not end within a minute, in slices they take 0.3 s. A join with the
 * ids is worse where the planner knows nothing of the table: it reads the whole store, for 1,000 ids as often.
 */
const SLICE_CHUNKS = 10_000;

/** Keeps chunks of an attempt aside until the file is complete; nobody sees them. */
export async function stageChunks(
  client: Client,
  tables: Tables,
  claim: string,
  chunks: readonly Chunk[],
): Promise<void> {
  const statement = `copy ${tables.stagedChunks} (claim, chunk_index, content, embedding) from stdin (format binary)`;
  await copyChunks(client, statement, chunks, (encoder, chunk) => {
    encoder.startRow(4);
    encoder.text(claim);
    encoder.int4(chunk.index);
    encoder.text(chunk.content);
    encoder.vector(chunk.vector);
  });
}

/** Makes the staged chunks of an attempt rows of the store, in the caller's transaction. Returns how many they were. */
export async function publishChunks(
  client: Client,
  tables: Tables,
  claim: string,
  { storeId, fileId, attributes }: Chunked,
): Promise<number> {
  const result = await client.query(
    `insert into ${tables.embeddings} (${columnsOf(tables).join(", ")})
     select $2, $3 || '_' || chunk_index, content, embedding, $4::jsonb, now(), $3, chunk_index
     from ${tables.stagedChunks} where claim = $1 order by chunk_index`,
    [claim, storeId, fileId, JSON.stringify(attributes ?? {})],
  );
  return result.rowCount ?? 0;
}

/** Removes the staged chunks of an attempt. */
export async function unstageChunks(client: Queryable, tables: Tables, claim: string): Promise<void> {
  await client.query(`delete from ${tables.stagedChunks} where claim = $1`, [claim]);
}

/** Stores chunks as rows of the store, in the caller's transaction. */
export async function insertChunks(
  client: Client,
  tables: Tables,
  { storeId, fileId, attributes }: Chunked,
  chunks: readonly Chunk[],
): Promise<void> {
  const columns = columnsOf(tables);
  const statement = `copy ${tables.embeddings} (${columns.join(", ")}) from stdin (format binary)`;
  const metadata = JSON.stringify(attributes ?? {});
  const createdAt = new Date();
  await copyChunks(client, statement, chunks, (encoder, chunk) => {
    encoder.startRow(columns.length);
    encoder.text(storeId);
    encoder.text(`${fileId}_${chunk.index}`);
    encoder.text(chunk.content);
    encoder.vector(chunk.vector);
    encoder.jsonb(metadata);
    encoder.timestamptz(createdAt);
    encoder.text(fileId);
    encoder.int4(chunk.index);
  });
}

/** Reads the text of a file's chunks, in order. */
export async function readChunks(
  client: Queryable,
  tables: Tables,
  storeId: string,
  fileId: string,
  chunkCount: number,
): Promise<string[]> {
  // Each chunk is looked up by its key, whatever the planner knows of the table; in one snapshot, so not in slices.
  const result = await client.query<{ content: string }>(
    `select chunk.content from generate_series(0, $3::int - 1) as place
     cross join lateral (
       select ${tables.content} as content from only ${tables.embeddings}
       where ${tables.vectorStoreId} = $1 and ${tables.id} = $2::text || '_' || place and file_id = $2::text
       offset 0) as chunk
     order by place`,
    [storeId, fileId, chunkCount],
  );
  return result.rows.map((row) => row.content);
}

/** Replaces the attributes of a file's chunks. */
export async function updateChunks(
  client: Queryable,
  tables: Tables,
  { storeId, fileId, attributes }: Chunked,
  chunkCount: number,
): Promise<void> {
  const metadata = JSON.stringify(attributes ?? {});
  for (const slice of sliceChunks(fileId, chunkCount)) {
    await client.query(
      `update only ${tables.embeddings} set ${tables.metadata} = $5::jsonb
       where ${tables.vectorStoreId} = $1 and ${chunksOfSlice(tables)}`,
      [storeId, ...slice, metadata],
    );
  }
}

/**
 * The condition that a row is one of the chunks $3 to $4 of the file $2. It names the ids, so that the rows are found
 * through the primary key and no other index is needed.
 */
export function chunksOfSlice(tables: Tables): string {
  return `${tables.id} = any(array(select $2::text || '_' || place from generate_series($3::int, $4::int) as place)) and file_id = $2::text`;
}

/** The parameters $2 to $4 of `chunksOfSlice`, for one statement after the other to take all chunks of a file. */
export function* sliceChunks(
  fileId: string,
  chunkCount: number,
): Generator<[fileId: string, first: number, last: number]> {
  for (let first = 0; first < chunkCount; first += SLICE_CHUNKS)
    yield [fileId, first, Math.min(first + SLICE_CHUNKS, chunkCount) - 1];
}

function columnsOf(tables: Tables): string[] {
  const { vectorStoreId, id, content, embedding, metadata, createdAt } = tables;
  return [vectorStoreId, id, content, embedding, metadata, createdAt, "file_id", "chunk_index"];
}

async function copyChunks(
  client: Client,
  statement: string,
  chunks: readonly Chunk[],
  encode: (encoder: CopyEncoder, chunk: Chunk) => void,
): Promise<void> {
  const encoder = new CopyEncoder();
  const send = async () => {
    const segment = encoder.takeSegment();
    await copyRows(client, statement, segment);
    recycle(segment);
  };
  for (const chunk of chunks) {
    encode(encoder, chunk);
    if (encoder.bytes >= SEGMENT_BYTES) await send();
  }
  if (encoder.rows > 0) await send();
}
