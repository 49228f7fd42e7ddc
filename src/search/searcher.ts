import { mapConcurrently } from "../api/concurrency.ts";
import { estimateJsonLength } from "../api/json-length.ts";
import { checkDimensions } from "../embeddings/vector.ts";
import { conflict, tooLarge, vectorStoreExpired, vectorStoreNotFound } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Embedder, Embeddings } from "../models/embedder.ts";
import { checkModel } from "../models/same-model.ts";
import { encodeVector } from "../postgres/copy.ts";
import type { Database } from "../postgres/database.ts";
import { requireActiveStore } from "../storage/require.ts";
import type { VectorStoreRow } from "../storage/stores.ts";
import { readFresh } from "./fresh-replica.ts";
import { Touches } from "./last-active.ts";
import type { SearchQuery } from "./query.ts";
import { needsEmbedding, type Search } from "./request.ts";
import { searchStore, type Findings, type Outcome } from "./run.ts";
import { KnownStores, type KnownStore } from "./store-cache.ts";

/** How searches are run. */
export interface SearchOptions {
  /** How long an exact search may take that makes up for what an index did not give. */
  exactTimeoutMs: number;
  /** Text search configuration of stores that have none of their own. */
  textSearchLanguage: string;
}

/** What was found. */
export interface SearchResults {
  /** For each search what each of its texts, or its vector, found. */
  found: Findings[][];
  /** What embedding all texts cost. */
  tokens: number;
}

/** How often a search is begun anew because the store was changed under it. */
const ATTEMPTS_MAX = 5;

/** Runs searches with what it remembers of the stores. */
export class Searcher {
  readonly #database: Database;
  readonly #embedder: Embedder;
  readonly #options: SearchOptions;
  readonly #stores = new KnownStores(limits.known_stores_max);
  readonly #touches: Touches;
  readonly #concurrencyMax: number;

  constructor(database: Database, embedder: Embedder, options: SearchOptions) {
    this.#database = database;
    this.#embedder = embedder;
    this.#options = options;
    this.#touches = new Touches(database.pool, database.tables);
    // The other half of the pool is left to everybody else.
    const half = Math.floor((database.pool.options.max ?? 1) / 2);
    this.#concurrencyMax = Math.max(1, Math.min(limits.search_concurrency_max, half));
  }

  /**
   * Searches a store: NOT_FOUND when there is none, VECTOR_STORE_EXPIRED when it has expired. One that is not known yet
   * is read before anything is embedded; what is known is verified by the statement that searches.
   */
  async run(storeId: string, searches: readonly Search[], signal: AbortSignal): Promise<SearchResults> {
    let embeddings: Promise<Embeddings> | undefined;
    const embed = () => (embeddings ??= this.#embed(searches, signal));
    let known = this.#stores.get(storeId);
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const store = known ?? (await this.#readStore(storeId));
      try {
        const results = await this.#attempt(store, searches, embed, signal);
        if (results !== "stale") {
          this.#touches.touch(storeId);
          return results;
        }
      } catch (error) {
        // It may be what is known of the store that is wrong.
        if (known === undefined || signal.aborted || !(await this.#hasChanged(known))) throw error;
      }
      known = undefined;
    }
    throw conflict();
  }

  /** One try, with the store as it is taken to be; "stale" when it turns out not to be so. */
  async #attempt(
    store: KnownStore & { embedding_count?: string },
    searches: readonly Search[],
    embed: () => Promise<Embeddings>,
    signal: AbortSignal,
  ): Promise<SearchResults | "stale"> {
    for (const { vector, path } of searches) {
      if (vector !== undefined) checkDimensions(vector, store.dimensions, store.id, `${path}embedding`);
    }
    const isEmbedding = searches.some(needsEmbedding);
    if (isEmbedding) checkModel(this.#embedder, store);
    if (store.embedding_count === "0") return { found: searches.map(() => []), tokens: 0 };
    const { vectors, tokens } = isEmbedding ? await embed() : { vectors: [], tokens: 0 };
    const queries = this.#toQueries(store, searches, vectors);
    const found = await readFresh(
      this.#database,
      store.id,
      (reader, fit) => this.#searchAll(reader, store, queries, fit),
      (results) => results.every(({ outcome }) => typeof outcome !== "string"),
      signal,
    );
    const bySearch = new Map(searches.map((search) => [search, [] as Findings[]]));
    for (const { search, outcome } of found) {
      if (outcome === "gone") throw vectorStoreNotFound(store.id);
      if (outcome === "expired") throw vectorStoreExpired(store.id);
      if (outcome === "stale") return outcome;
      bySearch.get(search)?.push(outcome);
    }
    return { found: [...bySearch.values()], tokens };
  }

  async #searchAll(
    { pool, searchSettings = {} }: Pick<Database, "pool" | "searchSettings">,
    store: KnownStore,
    queries: readonly { search: Search; query: SearchQuery }[],
    signal: AbortSignal,
  ): Promise<{ search: Search; outcome: Outcome }[]> {
    const { exactTimeoutMs } = this.#options;
    const searching = { pool, settings: searchSettings, exactTimeoutMs };
    let chars = 0;
    return mapConcurrently(
      queries,
      this.#concurrencyMax,
      async ({ search, query }, fit) => {
        const outcome = await searchStore(searching, this.#database.tables, store, query, fit);
        if (typeof outcome !== "string") {
          // A reply has the metadata twice.
          for (const { content, metadata } of outcome.hits)
            chars += content.length + 2 * estimateJsonLength(metadata);
        }
        if (chars > limits.search_chars_max) {
          const message = `The results have more than ${limits.search_chars_max} characters of text and metadata: ask for fewer at once.`;
          throw tooLarge(message);
        }
        return { search, outcome };
      },
      signal,
    );
  }

  /** One query for each vector, or for each text where that is not embedded. */
  #toQueries(
    store: KnownStore,
    searches: readonly Search[],
    vectors: readonly Float32Array[],
  ): { search: Search; query: SearchQuery }[] {
    let embedded = 0;
    const language = store.language ?? this.#options.textSearchLanguage;
    return searches.flatMap((search) => {
      const { texts, weights, filter, resultsMax, isExact, efSearch, path } = search;
      const toQuery = (given: Float32Array | undefined, text: string | undefined) => {
        const vector = given ?? (needsEmbedding(search) ? vectors[embedded++] : undefined);
        if (vector !== undefined && given === undefined)
          checkDimensions(vector, store.dimensions, store.id, `${path}query`);
        const fusion = weights && {
          keywords: weights.keywords === 0 ? undefined : text,
          language,
          vectorWeight: weights.vector,
          keywordsWeight: weights.keywords,
        };
        const isByVector = vector !== undefined && weights?.vector !== 0;
        const query = {
          vector: isByVector ? encodeVector(vector) : undefined,
          fusion,
          resultsMax,
          filter,
          isExact,
          efSearch,
        };
        return { search, query };
      };
      return search.vector === undefined
        ? texts.map((text) => toQuery(undefined, text))
        : [toQuery(search.vector, texts[0])];
    });
  }

  #embed(searches: readonly Search[], signal: AbortSignal): Promise<Embeddings> {
    return this.#embedder.embed(
      searches.filter(needsEmbedding).flatMap(({ texts }) => texts),
      signal,
    );
  }

  async #readStore(id: string): Promise<VectorStoreRow> {
    this.#stores.delete(id);
    const store = await requireActiveStore(this.#database.pool, this.#database.tables, id);
    // An empty one gets its dimensions with its first row.
    if (store.embedding_count !== "0") this.#stores.add(store);
    return store;
  }

  async #hasChanged(known: KnownStore): Promise<boolean> {
    const store = await this.#readStore(known.id);
    return (Object.keys(known) as (keyof KnownStore)[]).some((key) => known[key] !== store[key]);
  }
}
