import type { Queryable } from "../postgres/database.ts";
import type { Tables } from "../postgres/tables.ts";
import { hashText, textVector } from "../postgres/text-index.ts";

/**
 * SELECT of `id`, `content_tsvector` of the rows in the shared table that meet a condition: from the cache, else by splitting the
 * text. `storeId` is an SQL expression.
 */
export function selectWords(tables: Tables, storeId: string, condition: string, language: string): string {
  const { id, content, embeddings, words } = tables;
  const text = `texts.${content}`;
  // The subquery keeps the columns of the cache out of the condition.
  return `select texts.${id}, coalesce(cached.text_words, ${textVector(text, language)}) as content_tsvector
    from (select ${id}, ${content} from only ${embeddings} where ${condition}) texts
    left join ${words} as cached on cached.vector_store_id = ${storeId} and cached.embedding_id = texts.${id}
      and cached.text_hash = ${hashText(text, language)}`;
}

/**
 * CTE, behind a comma, that deletes cached words in the statement that deletes or replaces their texts, so that none
 * outlive them. `ids`: a SELECT of ids. Empty for a store with a table of its own, whose texts have no words in the cache.
 */
export function forgetWords(tables: Tables, storeId: string, ids: string): string {
  return tables.words === ""
    ? ""
    : `, forgotten as (delete from ${tables.words} where vector_store_id = ${storeId} and embedding_id in (${ids}))`;
}

/** Deletes all cached words of a store. */
export async function deleteWords(client: Queryable, tables: Tables, storeId: string): Promise<void> {
  await client.query(`delete from ${tables.words} where vector_store_id = $1`, [storeId]);
}

/** Deletes the cached words of rows that are gone, which only versions that do not know the cache leave behind. */
export async function deleteStrayWords(client: Queryable, tables: Tables, storeId: string): Promise<void> {
  const { words, embeddings, vectorStoreId, id } = tables;
  await client.query(
    `delete from ${words} as cached where cached.vector_store_id = $1 and not exists (
       select from only ${embeddings} as texts where texts.${vectorStoreId} = $1 and texts.${id} = cached.embedding_id)`,
    [storeId],
  );
}

/** A text without cached words. */
export interface Unsplit {
  id: string;
  chars: number;
}

/** Finds texts of a store in the shared table that have no cached words, in the order of their ids, after the id `after`. */
export async function findUnsplit(
  client: Queryable,
  tables: Tables,
  storeId: string,
  language: string,
  { after, rowsMax }: { after: string; rowsMax: number },
): Promise<Unsplit[]> {
  const { words, embeddings, vectorStoreId, id, content } = tables;
  const { rows } = await client.query<Unsplit>(
    `select texts.${id} as id, length(texts.${content}) as chars from only ${embeddings} as texts
     where texts.${vectorStoreId} = $1 and texts.${id} > $2 and not exists (
       select from ${words} as cached where cached.vector_store_id = $1 and cached.embedding_id = texts.${id}
         and cached.text_hash = ${hashText(`texts.${content}`, language)})
     order by 1 limit $3`,
    [storeId, after, rowsMax],
  );
  return rows;
}

/**
 * Splits texts of a store in the shared table, and caches their words. The caller must hold the store's placement lock
 * exclusively: a text that is being deleted would leave its words behind.
 */
export async function splitTexts(
  client: Queryable,
  tables: Tables,
  storeId: string,
  language: string,
  ids: readonly string[],
): Promise<void> {
  const { words, embeddings, vectorStoreId, id, content } = tables;
  await client.query(
    `insert into ${words} (vector_store_id, embedding_id, text_hash, text_words)
     select ${vectorStoreId}, ${id}, ${hashText(content, language)}, ${textVector(content, language)}
     from only ${embeddings} where ${vectorStoreId} = $1 and ${id} = any($2::text[]) order by 2
     on conflict (vector_store_id, embedding_id) do update set text_hash = excluded.text_hash, text_words = excluded.text_words`,
    [storeId, ids],
  );
}
