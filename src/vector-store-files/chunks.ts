import type { DocumentChunk } from "../documents/reader.ts";
import { CopyEncoder, copyRows, recycle } from "../postgres/copy.ts";
import type { Client, Queryable } from "../postgres/database.ts";
import { ofVisibleStore } from "../postgres/row-security/policies.ts";
import type { Tables } from "../postgres/tables.ts";
import { PLACE_BYTES, type StoredPlace } from "../storage/embeddings.ts";
import type { Attributes } from "./rows.ts";

/** A chunk: a piece of a file's text, with its vector. */
export interface Chunk extends DocumentChunk {
  /** Number of the chunk within the file, from 0. */
  index: number;
  vector: Float32Array;
}

/** The file whose chunks are written. */
export interface Chunked {
  storeId: string;
  fileId: string;
  attributes: Attributes | null;
}

/**
 * Bytes after which a COPY ends and the next one begins: the embedded database buffers a whole COPY in
 * memory.
 */
const SEGMENT_BYTES = 1024 * 1024;

/**
 * Chunks changed or deleted by one statement. When the bitmap of a bitmap heap scan outgrows work_mem, the
 * bitmap becomes lossy and Postgres rechecks every row against the whole id array: 200,000 chunks in one
 * statement did not finish within a minute, in slices of this size they take 0.3 s. A join with the ids is no
 * alternative: on a table without statistics the planner chose to read the whole store for every 1,000 ids.
 */
const SLICE_CHUNKS = 10_000;

/**
 * Copies chunks of an unfinished file into the staging table, invisible to searches, under the attempt's
 * claim.
 */
export async function stageChunks(
  client: Client,
  tables: Tables,
  claim: string,
  chunks: readonly Chunk[],
): Promise<void> {
  const statement = `copy ${tables.stagedChunks} (claim, chunk_index, content, embedding, chunk_place) from stdin (format binary)`;
  await copyChunks(client, statement, chunks, (encoder, chunk) => {
    encoder.startRow(5);
    encoder.text(claim);
    encoder.int4(chunk.index);
    encoder.text(chunk.text);
    encoder.vector(chunk.vector);
    encoder.jsonb(JSON.stringify(chunk.place));
  });
}

/**
 * Inserts the staged chunks of a claim into the store, in the caller's transaction. Returns the number of
 * chunks.
 */
export async function publishChunks(
  client: Client,
  tables: Tables,
  claim: string,
  { storeId, fileId, attributes }: Chunked,
): Promise<number> {
  const result = await client.query(
    `insert into ${tables.embeddings} (${columnsOf(tables).join(", ")})
     select $2, $3 || '_' || chunk_index, content, embedding, $4::jsonb, now(), $3, chunk_index, chunk_place
     from ${tables.stagedChunks} where claim = $1 order by chunk_index`,
    [claim, storeId, fileId, JSON.stringify(attributes ?? {})],
  );
  return result.rowCount ?? 0;
}

/** Deletes the staged chunks of a claim. */
export async function unstageChunks(client: Queryable, tables: Tables, claim: string): Promise<void> {
  await client.query(`delete from ${tables.stagedChunks} where claim = $1`, [claim]);
}

/** Inserts chunks into the store by binary COPY, in the caller's transaction. */
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
    encoder.text(chunk.text);
    encoder.vector(chunk.vector);
    encoder.jsonb(metadata);
    encoder.timestamptz(createdAt);
    encoder.text(fileId);
    encoder.int4(chunk.index);
    encoder.jsonb(JSON.stringify(chunk.place));
  });
}

/** A chunk as it is stored. */
export interface StoredChunk {
  content: string;
  place: StoredPlace;
}

/**
 * Reads the texts and the places of a file's chunks, in order; chunks deleted since are left out. Places that have more than
 * `placeBytesMax` together are all left out: those of chunks of one character are a hundred times their text.
 */
export async function readChunks(
  client: Queryable,
  tables: Tables,
  { storeId, fileId, chunkCount }: { storeId: string; fileId: string; chunkCount: number },
  placeBytesMax: number,
): Promise<StoredChunk[]> {
  // The lateral subquery with `offset 0` forces one primary-key lookup per chunk, even on a table without
  // statistics. One statement instead of slices gives one snapshot, so a concurrent change of the file is
  // seen whole or not at all.
  const result = await client.query<StoredChunk>(
    `select content, case when sum(${PLACE_BYTES}) over () <= $4::bigint then chunk_place end as place
     from generate_series(0, $3::int - 1) as wanted (number)
     cross join lateral (
       select ${tables.content} as content, chunk_place from only ${tables.embeddings}
       where ${tables.vectorStoreId} = ${ofVisibleStore(tables, "$1")} and ${tables.id} = $2::text || '_' || wanted.number and file_id = $2::text
       offset 0) as chunk
     order by wanted.number`,
    [storeId, fileId, chunkCount, placeBytesMax],
  );
  return result.rows;
}

/** Replaces the metadata of all chunks of a file with the file's attributes. */
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
 * SQL condition: the row is a chunk of file $2 with a number from $3 to $4. The condition lists the chunks'
 * ids, so that the primary key serves it and no index on `file_id` is needed.
 */
export function chunksOfSlice(tables: Tables): string {
  return `${tables.id} = any(array(select $2::text || '_' || place from generate_series($3::int, $4::int) as place)) and file_id = $2::text`;
}

/**
 * Splits a file's chunks into slices: yields the parameters $2 to $4 of `chunksOfSlice`, one statement each.
 */
export function* sliceChunks(
  fileId: string,
  chunkCount: number,
): Generator<[fileId: string, first: number, last: number]> {
  for (let first = 0; first < chunkCount; first += SLICE_CHUNKS)
    yield [fileId, first, Math.min(first + SLICE_CHUNKS, chunkCount) - 1];
}

function columnsOf(tables: Tables): string[] {
  const { vectorStoreId, id, content, embedding, metadata, createdAt } = tables;
  return [
    vectorStoreId,
    id,
    content,
    embedding,
    metadata,
    createdAt,
    "file_id",
    "chunk_index",
    "chunk_place",
  ];
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
