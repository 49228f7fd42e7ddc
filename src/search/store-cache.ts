import type { VectorStoreRow } from "../storage/stores.ts";

/** What is kept of a store's row: what it is, not what it was used for. */
export type KnownStore = Pick<
  VectorStoreRow,
  "id" | "dimensions" | "embedding_model" | "language" | "own_table" | "index_precision"
>;

/**
 * Remembers the stores read last, so that a search need not read the row first. Other processes change and delete
 * stores: what is remembered is an assumption, good for a statement that compares it with the row itself.
 */
export class KnownStores {
  readonly #stores = new Map<string, KnownStore>();
  readonly #storesMax: number;

  constructor(storesMax: number) {
    this.#storesMax = storesMax;
  }

  get(id: string): KnownStore | undefined {
    return this.#stores.get(id);
  }

  /** Remembers a store that has rows, in place of the one remembered longest. */
  add({ id, dimensions, embedding_model, language, own_table, index_precision }: KnownStore): void {
    this.delete(id);
    this.#stores.set(id, { id, dimensions, embedding_model, language, own_table, index_precision });
    const [oldest] = this.#stores.keys();
    if (this.#stores.size > this.#storesMax && oldest !== undefined) this.#stores.delete(oldest);
  }

  delete(id: string): void {
    this.#stores.delete(id);
  }
}
