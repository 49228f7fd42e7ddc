import { bulkTurn } from "../../api/concurrency/bulk-turns.ts";
import { joinChunks } from "../../api/texts/joined-chunks.ts";
import { tooLarge } from "../../errors.ts";
import { bind } from "../../filters/sql.ts";
import { limits } from "../../limits.ts";
import type { Queryable } from "../../postgres/database.ts";
import { ofVisibleStore } from "../../postgres/row-security/policies.ts";
import type { Tables } from "../../postgres/tables.ts";
import type { RowCondition } from "../../storage/embeddings.ts";
import type { Passage, SearchHit } from "../query.ts";

/** Which chunks around hits are read. */
export interface Surroundings {
  storeId: string;
  /** Chunks before and after a hit. */
  neighbors: number;
  /** Conditions that chunks must meet, all of them. */
  conditions: readonly RowCondition[];
}

/** A chunk around a hit, or the hit itself. */
export interface ChunkAround {
  id: string;
  file_id: string;
  chunk_index: number;
  content: string;
}

/** Reads the chunks around hits by one statement, each chunk once. Throws REQUEST_TOO_LARGE. */
export async function readChunksAround(
  client: Queryable,
  tables: Tables,
  surroundings: Surroundings,
  hits: readonly SearchHit[],
): Promise<ChunkAround[]> {
  const inFiles = hits.filter(({ file_id }) => file_id !== null);
  if (inFiles.length === 0) return [];
  const { text, values } = composeRead(tables, surroundings, inFiles);
  const { rows } = await client.query<ChunkAround & { bytes: string | null; id: string | null }>(
    text,
    values,
  );
  if (Number(rows[0]?.bytes ?? 0) > limits.search_bytes_max) throw tooMuch();
  return rows.filter(({ id }) => id !== null);
}

/** Gives hits their passages, in steps that share the event loop with calls. Throws REQUEST_TOO_LARGE. */
export async function joinPassages<Hit extends SearchHit>(
  hits: readonly Hit[],
  chunks: readonly ChunkAround[],
  neighbors: number,
): Promise<Hit[]> {
  const files = new Map<string, Map<number, string>>();
  const places = new Map<string, number>();
  for (const { id, file_id, chunk_index, content } of chunks) {
    places.set(id, chunk_index);
    const file = files.get(file_id) ?? new Map<number, string>();
    files.set(file_id, file.set(chunk_index, content));
  }
  let chars = 0;
  const surrounded: Hit[] = [];
  for (const hit of hits) {
    const file = files.get(hit.file_id ?? "");
    const place = places.get(hit.id);
    const passage = file && place !== undefined ? joinAround(file, place, neighbors) : undefined;
    surrounded.push(passage === undefined ? hit : { ...hit, passage });
    chars += passage?.text.length ?? 0;
    if (chars > limits.search_bytes_max) throw tooMuch();
    await bulkTurn();
  }
  return surrounded;
}

function tooMuch(): Error {
  return tooLarge(
    `The passages have more than ${limits.search_bytes_max} bytes: ask for fewer results or neighbors at once.`,
  );
}

function joinAround(chunks: ReadonlyMap<number, string>, place: number, neighbors: number): Passage {
  let [firstChunk, lastChunk] = [place, place];
  while (firstChunk > place - neighbors && chunks.has(firstChunk - 1)) firstChunk--;
  while (lastChunk < place + neighbors && chunks.has(lastChunk + 1)) lastChunk++;
  const texts: string[] = [];
  for (let index = firstChunk; index <= lastChunk; index++) texts.push(chunks.get(index) as string);
  return { text: joinChunks(texts), firstChunk, lastChunk };
}

/** Chunks are found by their ids, `<file>_<number>`, in the primary key: see `readChunks` of vector-store-files. */
function composeRead(
  tables: Tables,
  { storeId, neighbors, conditions }: Surroundings,
  hits: readonly SearchHit[],
): { text: string; values: unknown[] } {
  // The first parameter, which conditions know.
  const values: unknown[] = [storeId];
  const ids = bind(
    values,
    hits.map(({ id }) => id),
    "text[]",
  );
  const range = bind(values, neighbors, "int");
  const ofStore = `${tables.vectorStoreId} = ${ofVisibleStore(tables, "$1")}`;
  const visible = conditions.map((compile) => `and ${compile(tables, values)}`).join(" ");
  const text = `with found as materialized (
      select file_id, chunk_index from only ${tables.embeddings}
      where ${ofStore} and ${tables.id} = any(${ids}) and file_id is not null and chunk_index is not null ${visible}),
    wanted as materialized (
      select distinct file_id as file, place from found
      cross join generate_series(greatest(0, chunk_index - ${range}), chunk_index + ${range}) as place),
    chunks as materialized (
      select chunk.* from wanted cross join lateral (
        select ${tables.id} as id, file_id, chunk_index, ${tables.content} as content from only ${tables.embeddings}
        where ${ofStore} and ${tables.id} = wanted.file || '_' || wanted.place and file_id = wanted.file ${visible}
        offset 0) as chunk)
    select bytes, chunks.* from (select sum(octet_length(content)) as bytes from chunks) as total
    left join chunks on bytes <= ${limits.search_bytes_max}`;
  return { text, values };
}
