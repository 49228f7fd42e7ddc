import { placeTables, type Tables } from "../postgres/tables.ts";
import { hashText, textVector } from "../postgres/text-index.ts";
import type { Filter, Words } from "./sql.ts";

/**
 * The words of the texts in a store's table: those of its column, if it has one; in the shared table those that are cached,
 * else split from each text; in another table split from each text.
 */
export function wordsOf(
  placed: Tables,
  store: { own_table: string | null; has_words: boolean },
  language: string,
): Words {
  const isOwn = store.own_table !== null && placeTables(placed, store).embeddings === placed.embeddings;
  if (isOwn && store.has_words) return { vector: "content_tsvector", language };
  const split = textVector(placed.content, language);
  const vector = placed.words === "" ? split : `coalesce(${selectCached(placed, language)}, ${split})`;
  return { vector, language };
}

/**
 * Subquery of a row's cached words, null where there are none. The columns of the cache get names that no column of the
 * embeddings has, whose names are configurable: names of both would mean the cache's.
 */
function selectCached({ words, vectorStoreId, id, content }: Tables, language: string): string {
  return `(select cached_words from (
      select vector_store_id as cached_store, embedding_id as cached_row, text_hash as cached_hash, text_words as cached_words from ${words}) cached
    where cached_store = ${vectorStoreId} and cached_row = ${id} and cached_hash = ${hashText(content, language)})`;
}

/** Whether a filter asks for words of the text. */
export function asksForWords(filter: Filter): boolean {
  return "filters" in filter ? filter.filters.some(asksForWords) : filter.type === "text";
}
