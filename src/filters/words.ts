import { placeTables, type Tables } from "../postgres/tables.ts";
import { textVector } from "../postgres/text-index.ts";
import type { Filter, Words } from "./sql.ts";

/** The words of the texts in a store's table: those of its column, if it has one, else split from each text. */
export function wordsOf(
  placed: Tables,
  store: { own_table: string | null; has_words: boolean },
  language: string,
): Words {
  const isOwn = store.own_table !== null && placeTables(placed, store).embeddings === placed.embeddings;
  const vector = isOwn && store.has_words ? "content_tsvector" : textVector(placed.content, language);
  return { vector, language };
}

/** Whether a filter asks for words of the text. */
export function asksForWords(filter: Filter): boolean {
  return "filters" in filter ? filter.filters.some(asksForWords) : filter.type === "text";
}
