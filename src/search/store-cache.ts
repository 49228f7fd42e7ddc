import { keep } from "../api/fresh-cache.ts";
import type { SearchedStore } from "../storage/stores.ts";

/**
 * A FIFO cache of store rows, which saves a search one round trip. Other processes change and delete stores
 * without invalidating the cache, so every statement that uses a cached row must compare it with the current
 * row.
 */
export class StoreCache {
  readonly #stores = new Map<string, SearchedStore>();
  readonly #storesMax: number;

  constructor(storesMax: number) {
    this.#storesMax = storesMax;
  }

  get(id: string): SearchedStore | undefined {
    return this.#stores.get(id);
  }

  /** Adds a store that has rows; when the cache is full, evicts the entry added first. */
  add(store: SearchedStore): void {
    const { id, dimensions, embedding_model, language, own_table, index_precision } = store;
    const { ef_search, filtered_ef_search, has_words, restricts_readers } = store;
    const kept = {
      id,
      dimensions,
      embedding_model,
      language,
      own_table,
      has_words,
      index_precision,
      ef_search,
      filtered_ef_search,
      restricts_readers,
    };
    keep(this.#stores, id, kept, this.#storesMax);
  }

  delete(id: string): void {
    this.#stores.delete(id);
  }
}
