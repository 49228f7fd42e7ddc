import { create, fromJson, type JsonObject, type JsonValue, type MessageInitShape } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type Client as ServiceClient } from "@connectrpc/connect";
import {
  WriteMode,
  type EmbeddingInputSchema,
  type EmbeddingService,
} from "../../../gen/pgquiver/v1/embeddings_pb.ts";
import { FilterSchema, FilterType, type Filter } from "../../../gen/pgquiver/v1/filters_pb.ts";
import type { SearchRequestSchema, SearchService } from "../../../gen/pgquiver/v1/search_pb.ts";
import type { VectorStoreService } from "../../../gen/pgquiver/v1/vector_stores_pb.ts";

/** Ids in one call that deletes. */
const DELETES_MAX = 1_000;

/** Rows in one call that adds: small enough for the limit of a request with long vectors. */
const UPSERTS_MAX = 100;

/** A row to store: a text, and what else is known of it. Without a vector the service embeds the text. */
export interface RowInput {
  content: string;
  id?: string;
  embedding?: ArrayLike<number>;
  metadata?: JsonObject;
  /** In seconds since 1970 (UTC). */
  createdAt?: number;
}

/** A row that was found. */
export interface Found {
  id: string;
  content: string;
  metadata: JsonObject;
  /** From 0 to 1; 1 is the same direction. */
  score: number;
}

/**
 * OpenAI's filters, `{ type: "eq", key: "lang", value: "en" }` or `{ type: "and", filters: […] }`, or a mapping of
 * equalities that must all hold, `{ lang: "en" }`.
 */
export type FilterInput = JsonObject;

/** What to search for, by a text or a vector, and further fields of SearchRequest. */
export type SearchOptions = Omit<
  MessageInitShape<typeof SearchRequestSchema>,
  "$typeName" | "$unknown" | "vectorStoreId" | "query" | "embedding" | "filters"
> & {
  query?: string | string[];
  embedding?: ArrayLike<number>;
  filters?: FilterInput;
};

/** The services by which a store is used. */
export interface StoreServices {
  readonly embeddings: ServiceClient<typeof EmbeddingService>;
  readonly search: ServiceClient<typeof SearchService>;
  readonly vectorStores: ServiceClient<typeof VectorStoreService>;
}

/** One store, as plain values: what applications and the adapters for frameworks need most. */
export class Store {
  readonly id: string;
  readonly #services: StoreServices;

  constructor(services: StoreServices, id: string) {
    this.#services = services;
    this.id = id;
  }

  /** Creates the store unless it exists. */
  async ensure(dimensions?: number): Promise<this> {
    try {
      await this.#services.vectorStores.createVectorStore({
        id: this.id,
        ...(dimensions !== undefined && { dimensions }),
      });
    } catch (error) {
      if (!(error instanceof ConnectError) || error.code !== Code.AlreadyExists) throw error;
    }
    return this;
  }

  /** Adds or replaces rows, 100 in a call, each call all or none. Returns their ids. For many rows see `load`. */
  async upsert(rows: readonly RowInput[]): Promise<string[]> {
    const ids: string[] = [];
    for (let start = 0; start < rows.length; start += UPSERTS_MAX) {
      const { data } = await this.#services.embeddings.batchCreateEmbeddings({
        vectorStoreId: this.id,
        mode: WriteMode.UPSERT,
        embeddings: rows.slice(start, start + UPSERTS_MAX).map(toMessage),
      });
      ids.push(...data.map(({ id }) => id));
    }
    return ids;
  }

  /** Finds rows by a text or a vector, best first. */
  async search({ query = [], embedding, filters, ...options }: SearchOptions): Promise<Found[]> {
    const { data } = await this.#services.search.search({
      ...options,
      vectorStoreId: this.id,
      query: typeof query === "string" ? [query] : query,
      embedding: Array.from(embedding ?? []),
      ...(filters !== undefined && { filters: toFilter(filters) }),
    });
    return data.map(({ id, content, attributes, score }) => ({
      id,
      content: content.map(({ text }) => text).join(""),
      metadata: attributes ?? {},
      score,
    }));
  }

  /** Deletes rows. Returns the ids of those that existed. */
  async delete(ids: readonly string[]): Promise<string[]> {
    const deleted: string[] = [];
    for (let start = 0; start < ids.length; start += DELETES_MAX) {
      const embeddingIds = ids.slice(start, start + DELETES_MAX);
      const reply = await this.#services.embeddings.batchDeleteEmbeddings({
        vectorStoreId: this.id,
        embeddingIds,
      });
      deleted.push(...reply.deletedIds);
    }
    return deleted;
  }

  /** Deletes the rows that match, or all. Returns how many there were. */
  async purge(filters: FilterInput | "all"): Promise<number> {
    // Every value is in no empty list.
    const condition = filters === "all" ? { type: "nin", key: "id", value: [] } : filters;
    const { deletedCount } = await this.#services.embeddings.purgeEmbeddings({
      vectorStoreId: this.id,
      filters: toFilter(condition),
    });
    return Number(deletedCount);
  }
}

/** Makes a message of a row. */
export function toMessage({
  content,
  id,
  embedding,
  metadata = {},
  createdAt,
}: RowInput): MessageInitShape<typeof EmbeddingInputSchema> {
  return {
    content,
    embedding: Array.from(embedding ?? []),
    metadata,
    ...(id !== undefined && { id }),
    ...(createdAt !== undefined && { createdAt: BigInt(createdAt) }),
  };
}

/** Makes a Filter of OpenAI's JSON form, or of a mapping of equalities. */
export function toFilter(filters: FilterInput): Filter {
  const { type, key, value, filters: parts } = filters;
  if (typeof type !== "string" || (key === undefined && parts === undefined)) {
    const equalities = Object.entries(filters).map(([name, equal]) =>
      toFilter({ type: "eq", key: name, value: equal }),
    );
    return create(FilterSchema, { type: FilterType.AND, filters: equalities });
  }
  const number = FilterType[type.toUpperCase() as keyof typeof FilterType];
  if (number === undefined) throw new TypeError(`There is no filter of type '${type}'.`);
  const filter = create(FilterSchema, { type: number });
  if (typeof key === "string") filter.key = key;
  if (value !== undefined) filter.value = toValue(value);
  filter.filters = ((parts ?? []) as JsonObject[]).map(toFilter);
  return filter;
}

function toValue(value: JsonValue): NonNullable<Filter["value"]> {
  return fromJson(ValueSchema, value);
}
