import { createHash } from "node:crypto";
import { decodeVector } from "../postgres/copy.ts";
import type { Client, Database } from "../postgres/database.ts";
import { ofVisibleStore } from "../postgres/row-security/policies.ts";
import type { Tables } from "../postgres/tables.ts";
import { readPlaced } from "../storage/placement.ts";
import type { VectorStoreRow } from "../storage/stores.ts";
import { sliceChunks } from "./chunks.ts";

/** Bytes of a text's SHA-256 that stand in the list, and of the entry with the chunk's number. */
const PREFIX_BYTES = 8;
const ENTRY_BYTES = PREFIX_BYTES + 4;

/**
 * The vectors of a file's chunks, found by their texts, for the file that replaces it. In memory is a list of hashes and
 * numbers, 12 bytes a chunk, so 12 MB for the largest file; vectors are read when they are asked for, by the chunk's number, and compared by the
 * whole hash. Chunks that are changed or deleted meanwhile are not found.
 */
export class FormerVectors {
  readonly #database: Database;
  readonly #store: VectorStoreRow;
  readonly #fileId: string;
  /** Lists in the order of the hashes, one for each slice of the chunks. */
  readonly #lists: readonly Buffer[];

  private constructor(database: Database, store: VectorStoreRow, fileId: string, lists: readonly Buffer[]) {
    this.#database = database;
    this.#store = store;
    this.#fileId = fileId;
    this.#lists = lists;
  }

  /** Reads the list of a file's chunks. */
  static async read(
    database: Database,
    store: VectorStoreRow,
    fileId: string,
    chunkCount: number,
    signal: AbortSignal,
  ): Promise<FormerVectors> {
    const lists: Buffer[] = [];
    for (const [, first, last] of sliceChunks(fileId, chunkCount)) {
      const read = (client: Client, placed: Tables) =>
        readList(client, placed, [store.id, fileId, first, last]);
      const list = await readPlaced(database.pool, database.tables, store, read, signal);
      if (list !== null) lists.push(list);
    }
    return new FormerVectors(database, store, fileId, lists);
  }

  /** Returns the vector of each text; undefined where the file has no chunk with this text. */
  async find(texts: readonly string[], signal: AbortSignal): Promise<(Float32Array | undefined)[]> {
    const found = Array.from<Float32Array | undefined>({ length: texts.length });
    const hashes = texts.map((text) => createHash("sha256").update(text).digest());
    const wanted = hashes.flatMap((hash, place) => {
      const chunk = this.#findChunk(hash);
      return chunk === undefined ? [] : [{ place, chunk, hash }];
    });
    if (wanted.length === 0) return found;
    const values = [
      this.#store.id,
      this.#fileId,
      wanted.map(({ place }) => place),
      wanted.map(({ chunk }) => chunk),
      wanted.map(({ hash }) => hash),
    ];
    const read = (client: Client, placed: Tables) => readVectors(client, placed, values);
    const { pool, tables } = this.#database;
    for (const { place, vector } of await readPlaced(pool, tables, this.#store, read, signal))
      found[place] = decodeVector(vector);
    return found;
  }

  #findChunk(hash: Buffer): number | undefined {
    for (const list of this.#lists) {
      const chunk = findEntry(list, hash);
      if (chunk !== undefined) return chunk;
    }
    return undefined;
  }
}

/** Finds the number of a chunk by binary search. */
function findEntry(list: Buffer, hash: Buffer): number | undefined {
  let [low, high] = [0, list.length / ENTRY_BYTES];
  while (low < high) {
    const middle = (low + high) >>> 1;
    const start = middle * ENTRY_BYTES;
    const order = list.compare(hash, 0, PREFIX_BYTES, start, start + PREFIX_BYTES);
    if (order === 0) return list.readInt32BE(start + PREFIX_BYTES);
    if (order < 0) low = middle + 1;
    else high = middle;
  }
  return undefined;
}

/** SQL: a lookup of one chunk of file $2 by its number, in the primary key; see `readChunks`. */
function chunkLookup(tables: Tables, columns: string): string {
  return `(select ${columns}, sha256(convert_to(${tables.content}, 'UTF8')) as hash from only ${tables.embeddings}
    where ${tables.vectorStoreId} = ${ofVisibleStore(tables, "$1")} and ${tables.id} = $2::text || '_' || wanted.chunk
      and file_id = $2::text offset 0) as chunk`;
}

async function readList(client: Client, tables: Tables, values: readonly unknown[]): Promise<Buffer | null> {
  const prefix = `substr(hash, 1, ${PREFIX_BYTES})`;
  const result = await client.query<{ list: Buffer | null }>(
    `select string_agg(${prefix} || int4send(wanted.chunk), ''::bytea order by ${prefix}) as list
     from generate_series($3::int, $4::int) as wanted (chunk)
     cross join lateral ${chunkLookup(tables, "chunk_index")}`,
    [...values],
  );
  return result.rows[0]?.list ?? null;
}

async function readVectors(
  client: Client,
  tables: Tables,
  values: readonly unknown[],
): Promise<{ place: number; vector: Buffer }[]> {
  const { rows } = await client.query<{ place: number; vector: Buffer }>(
    `select wanted.place, vector_send(chunk.vector) as vector
     from unnest($3::int[], $4::int[], $5::bytea[]) as wanted (place, chunk, hash)
     cross join lateral ${chunkLookup(tables, `${tables.embedding} as vector`)}
     where chunk.hash = wanted.hash`,
    [...values],
  );
  return rows;
}
