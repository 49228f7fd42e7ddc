import { mapConcurrently } from "../api/concurrency/semaphore.ts";
import type { FairQueue } from "../api/concurrency/fair-queue.ts";
import { estimateJsonLength } from "../api/json-length.ts";
import { withinDeadline } from "../api/within-deadline.ts";
import { checkDimensions } from "../embeddings/vector.ts";
import { conflict, vectorStoreExpired, vectorStoreNotFound } from "../errors.ts";
import { asksForWords } from "../filters/words.ts";
import { namesReader, restrictTo, visibleTo, type Readers } from "../filters/readers.ts";
import { limits } from "../limits.ts";
import type { Embedder, Embeddings, Payer } from "../models/embedder.ts";
import { chooseEmbedder } from "../models/same-model.ts";
import { encodeVector } from "../postgres/copy.ts";
import type { DirectReads } from "../postgres/citus/direct-reads.ts";
import { KnownShards } from "../postgres/citus/shards.ts";
import { onNodes } from "../postgres/citus/node-watch.ts";
import type { Database } from "../postgres/database.ts";
import { inPlace } from "../postgres/row-security/call.ts";
import { readPlaced } from "../storage/placement.ts";
import { requireActiveStore } from "../storage/require.ts";
import type { SearchedStore, VectorStoreRow } from "../storage/stores.ts";
import { AttributeDemand } from "./attribute-demand.ts";
import { readFresh } from "./fresh-replica.ts";
import { WordCache } from "./keywords/word-cache.ts";
import { LastActiveUpdater } from "./last-active.ts";
import { MetadataSamples } from "./metadata-samples.ts";
import { splittingLanguage, type SearchHit, type SearchQuery } from "./query.ts";
import { needsEmbedding, type Search } from "./request.ts";
import { chunksOf, toFiles } from "./results/files.ts";
import { readChunksAround, type ChunkAround } from "./results/passages.ts";
import { tooMuch, tooSlow } from "./refusals.ts";
import { searchStore, type Findings, type SearchOutcome } from "./run.ts";
import { StoreCache } from "./store-cache.ts";

/** Settings of searches. */
export interface SearchOptions {
  /** Timeout in ms of the exact search that follows an index search with too few results. */
  exactTimeoutMs: number;
  /** Timeout in ms of one search in the database, from its turn on; embedding and waiting have their own. */
  timeoutMs: number;
  /** Postgres text search configuration of stores that name none, such as "english". */
  textSearchLanguage: string;
}

/** The results of several searches in one store. */
export interface SearchResults {
  /** For each search, the results of each of its texts, or of its vector. */
  found: Findings[][];
  /** Tokens used to embed all texts; 0 when nothing was embedded. */
  tokens: number;
  /** Names the model and dimensions of the store's vectors: scores of equal ones are comparable. Undefined: it is empty. */
  space: string | undefined;
  embedding: Stage;
  searching: Stage;
}

/** What a stage of searches worked on, texts or queries, and how long that took. */
export interface Stage {
  count: number;
  durationMs: number;
}

/**
 * The caller of a search, for fair queueing, for whom the caller reads, and the signal that cancels the search when the
 * caller disconnects.
 */
export interface SearchCall {
  caller: string;
  readers: Readers;
  /** Who pays for the embeddings of its texts. */
  payer?: Payer | undefined;
  signal: AbortSignal;
  /** What the searches of several stores share; undefined: there is one store. */
  shared?: SharedWork | undefined;
}

/** What the searches of several stores in one call share: their turns, the vectors of their texts, and a limit. */
export interface SharedWork {
  embeddings: Map<Embedder, Promise<Embeddings>>;
  /** Characters of text and metadata that were found so far, and bytes of vectors. */
  chars: number;
}

/** Takes note of a query of a store. */
export type ObserveQuery = (storeId: string, query: SearchQuery) => void;

const NO_STAGE: Stage = { count: 0, durationMs: 0 };

/** Attempts per search when the cached store row proves stale or the store changes during the search. */
const ATTEMPTS_MAX = 5;

/** Runs searches, with a cache of store rows. */
export class Searcher {
  readonly #database: Database;
  readonly #embedder: Embedder;
  readonly #options: SearchOptions;
  readonly #queue: FairQueue;
  readonly #observe: ObserveQuery;
  readonly #stores = new StoreCache(limits.known_stores_max);
  readonly #samples = new MetadataSamples();
  readonly #shards: KnownShards;
  readonly #direct: DirectReads | undefined;
  readonly #demand: AttributeDemand;
  readonly #touches: LastActiveUpdater;
  readonly #words: WordCache;
  /** Queries that one call may run at the same time. */
  readonly concurrencyMax: number;

  /** `observe` gets each query that was answered by a store's vector index. `direct`: see `Searching`. */
  constructor(
    database: Database,
    embedder: Embedder,
    options: SearchOptions,
    queue: FairQueue,
    observe: ObserveQuery = () => {},
    direct?: DirectReads,
  ) {
    this.#database = database;
    this.#embedder = embedder;
    this.#options = options;
    this.#queue = queue;
    this.#observe = observe;
    this.#direct = direct;
    this.#shards = new KnownShards((nodes) => direct?.keep(nodes));
    this.#demand = new AttributeDemand(database.pool, database.tables);
    this.#touches = new LastActiveUpdater(database.pool, database.tables);
    this.#words = new WordCache(database.pool, database.tables);
    // One request may use at most half of the pool's connections, so that a batch cannot starve other
    // requests.
    const half = Math.floor((database.pool.options.max ?? 1) / 2);
    this.concurrencyMax = Math.max(1, Math.min(limits.search_concurrency_max, half));
  }

  /**
   * Runs searches in one store. Throws NOT_FOUND when the store does not exist, VECTOR_STORE_EXPIRED when it
   * has expired, and a conflict when the store keeps changing. A store that is not cached is read before
   * anything is embedded; a cached row is verified by the search statement itself, which saves a round trip.
   */
  async run(storeId: string, searches: readonly Search[], call: SearchCall): Promise<SearchResults> {
    const { signal } = call;
    const { embeddings } = call.shared ?? { embeddings: new Map<Embedder, Promise<Embeddings>>() };
    const embed = (embedder: Embedder) => {
      const earlier = embeddings.get(embedder) ?? this.#embed(embedder, searches, call);
      embeddings.set(embedder, earlier);
      return earlier;
    };
    let known = this.#stores.get(storeId);
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      const store = known ?? (await this.#readStore(storeId));
      try {
        const results = await this.#attempt(store, searches, embed, call);
        if (results !== "stale") {
          this.#touches.touch(storeId);
          return results;
        }
      } catch (error) {
        // A stale cache may have caused the error, such as a mismatch of dimensions or model: retry if the
        // row differs.
        if (known === undefined || signal.aborted || !(await this.#hasChanged(known))) throw error;
      }
      known = undefined;
    }
    throw conflict();
  }

  /** Reads the chunks around hits of a store, by one statement that waits for its turn among those of the call. */
  async readAround(
    storeId: string,
    { neighbors, readers: asked }: Search,
    hits: readonly SearchHit[],
    { caller, readers, signal }: SearchCall,
    ofCall: object,
  ): Promise<ChunkAround[]> {
    const { pool, tables } = this.#database;
    const { timeoutMs } = this.#options;
    const store = this.#stores.get(storeId) ?? (await this.#readStore(storeId));
    const conditions = [visibleTo(readers), asked && namesReader(asked)].filter((one) => one !== undefined);
    const read = (until: AbortSignal) =>
      readPlaced(
        pool,
        tables,
        store,
        (client, placed) => readChunksAround(client, placed, { storeId, neighbors, conditions }, hits),
        until,
      );
    return inPlace(pool.options, signal, async () => {
      using _ = await this.#queue.acquire(caller, ofCall, signal);
      return await withinDeadline(timeoutMs, () => tooSlow(timeoutMs), signal, read);
    });
  }

  /** One attempt with a possibly cached store row; "stale" when the row proves to be out of date. */
  async #attempt(
    store: SearchedStore & { embedding_count?: string },
    searches: readonly Search[],
    embed: (embedder: Embedder) => Promise<Embeddings>,
    call: SearchCall,
  ): Promise<SearchResults | "stale"> {
    for (const { vector, path } of searches) {
      if (vector !== undefined) checkDimensions(vector, store.dimensions, store.id, `${path}embedding`);
    }
    const isEmbedding = searches.some(needsEmbedding);
    const embedder = isEmbedding ? chooseEmbedder(this.#embedder, store) : undefined;
    if (store.embedding_count === "0")
      return {
        found: searches.map(() => []),
        tokens: 0,
        space: undefined,
        embedding: NO_STAGE,
        searching: NO_STAGE,
      };
    const startedAt = performance.now();
    const { vectors, tokens } = embedder !== undefined ? await embed(embedder) : { vectors: [], tokens: 0 };
    const embeddedAt = performance.now();
    // What the provider's model made may not fit, and another time it may: it is not to be remembered.
    if (vectors.some(({ length }) => length !== store.dimensions)) embedder?.forget?.(textsOf(searches));
    const queries = this.#toQueries(store, searches, vectors, call.readers);
    const found = await readFresh(
      this.#database,
      store.id,
      (reader, fit) => this.#searchAll(reader, store, queries, { ...call, signal: fit }),
      (results) => results.every(({ outcome }) => typeof outcome !== "string"),
      call.signal,
    );
    const bySearch = new Map(searches.map((search) => [search, [] as Findings[]]));
    for (const { search, outcome } of found) {
      if (outcome === "gone") throw vectorStoreNotFound(store.id);
      if (outcome === "expired") throw vectorStoreExpired(store.id);
      if (outcome === "stale") return outcome;
      bySearch.get(search)?.push(outcome);
    }
    return {
      found: [...bySearch.values()],
      tokens,
      space: JSON.stringify([store.embedding_model, store.dimensions]),
      embedding: { count: vectors.length, durationMs: embeddedAt - startedAt },
      searching: { count: queries.length, durationMs: performance.now() - embeddedAt },
    };
  }

  async #searchAll(
    { pool, searchSettings = {} }: Pick<Database, "pool" | "searchSettings">,
    store: SearchedStore,
    queries: readonly { search: Search; query: SearchQuery }[],
    { caller, signal, shared }: SearchCall,
  ): Promise<{ search: Search; outcome: SearchOutcome }[]> {
    const { exactTimeoutMs, timeoutMs } = this.#options;
    const searching = {
      pool,
      settings: searchSettings,
      isDistributed: this.#database.citus !== undefined,
      shards: this.#shards,
      direct: this.#direct,
      exactTimeoutMs,
      samples: this.#samples,
      demand: this.#demand,
    };
    const spent = shared ?? { chars: 0 };
    return mapConcurrently(
      queries,
      this.concurrencyMax,
      async ({ search, query }, fit) => {
        const outcome = await inPlace(pool.options, fit, async () => {
          using _ = await this.#queue.acquire(caller, shared ?? queries, fit);
          return await withinDeadline(
            timeoutMs,
            () => tooSlow(timeoutMs),
            fit,
            (fit) =>
              // A replica's coordinator reads the same nodes.
              onNodes(this.#database.pool, store.own_table, fit, (limited) =>
                searchStore(searching, this.#database.tables, store, query, limited),
              ),
          );
        });
        if (typeof outcome !== "string") {
          if (lacksFiles(search, query, outcome)) outcome.isComplete = false;
          const language = splittingLanguage(query);
          if (language !== undefined && store.own_table === null) void this.#words.note(store.id, language);
          // The recall tuner compares rows without their texts.
          if (outcome.method === "index" && !(query.filter && asksForWords(query.filter)))
            this.#observe(store.id, query);
          // Factor 2: a reply has the metadata as `metadata` and as `attributes`.
          for (const { content, metadata, place, vector } of outcome.hits)
            spent.chars +=
              content.length +
              2 * estimateJsonLength(metadata) +
              estimateJsonLength(place) +
              (vector?.length ?? 0);
          if (
            outcome.isCut === true &&
            search.paging === undefined &&
            outcome.hits.length < countResults(search)
          )
            throw tooMuch(limits.search_bytes_max, "bytes");
        }
        if (spent.chars > limits.search_chars_max) throw tooMuch(limits.search_chars_max, "characters");
        return { search, outcome };
      },
      signal,
    );
  }

  /** Makes one query per vector, or per text when the texts are not embedded. */
  #toQueries(
    store: SearchedStore,
    searches: readonly Search[],
    vectors: readonly Float32Array[],
    readers: Readers,
  ): { search: Search; query: SearchQuery }[] {
    let embedded = 0;
    const language = store.language ?? this.#options.textSearchLanguage;
    return searches.flatMap((search) => {
      const { texts, weights, candidatesMax, groups, bytesMax, paging, isExact, efSearch, path } = search;
      const hasVectors = search.fields.embedding || search.diversity > 0;
      // A reranking model reads the texts.
      const hasTexts = search.fields.content || search.ranker !== undefined;
      // A store that has come to restrict its readers since it was read makes the statement's result stale.
      const filter = restrictTo(search.filter, [
        search.readers,
        store.restricts_readers ? readers : undefined,
      ]);
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
          resultsMax:
            groups === undefined || fusion === undefined ? candidatesMax : chunksOf(candidatesMax, groups),
          ...(groups !== undefined && fusion === undefined && { files: groups }),
          ...(bytesMax !== undefined && { bytesMax }),
          ...(hasVectors && { hasVectors }),
          ...(!hasTexts && { hasTexts }),
          ...(paging?.after !== undefined && { after: paging.after }),
          filter,
          language,
          isExact: isExact || paging?.after !== undefined,
          efSearch,
        };
        return { search, query };
      };
      return search.vector === undefined
        ? texts.map((text) => toQuery(undefined, text))
        : [toQuery(search.vector, texts[0])];
    });
  }

  #embed(
    embedder: Embedder,
    searches: readonly Search[],
    { payer, signal }: SearchCall,
  ): Promise<Embeddings> {
    return embedder.embed(textsOf(searches), signal, "bounded", payer);
  }

  async #readStore(id: string): Promise<VectorStoreRow> {
    this.#stores.delete(id);
    const store = await requireActiveStore(this.#database.pool, this.#database.tables, id);
    // Do not cache an empty store: its dimensions and model change with the first row.
    if (store.embedding_count !== "0") this.#stores.add(store);
    return store;
  }

  async #hasChanged(known: SearchedStore): Promise<boolean> {
    const store = await this.#readStore(known.id);
    return (Object.keys(known) as (keyof SearchedStore)[]).some((key) => known[key] !== store[key]);
  }
}

/** The texts of searches that are embedded. */
function textsOf(searches: readonly Search[]): string[] {
  return searches.filter(needsEmbedding).flatMap(({ texts }) => texts);
}

/** The most results of a search. */
function countResults({ resultsMax, groups }: Search): number {
  return resultsMax * (groups?.size ?? 1);
}

/** Whether the best chunks of a hybrid search, of which there are more, are of fewer files than the search asks for. */
function lacksFiles({ groups, resultsMax }: Search, query: SearchQuery, { hits, isCut }: Findings): boolean {
  if (groups === undefined || query.fusion === undefined) return false;
  return (isCut === true || hits.length === query.resultsMax) && toFiles(hits).length < resultsMax;
}
