import type { Precision } from "../postgres/vector-index.ts";
import type { Filter } from "../filters/sql.ts";

/** What of a store's row a search depends on. It may be out of date: every search compares it with the row as it is. */
export interface SearchedStore {
  id: string;
  dimensions: number | null;
  embedding_model: string | null;
  /** Text search configuration; null: the service's own. */
  language: string | null;
  /** The table that holds the store's rows, not quoted; null: the shared one. */
  own_table: string | null;
  /** What the index in use keeps of each vector; null: there is none. */
  index_precision: Precision | null;
}

/** A search by vector, by keywords, or by both. */
export interface SearchQuery {
  /** pgvector's binary form, which spares both sides the conversion to text; undefined: by keywords alone. */
  vector: Buffer | undefined;
  /** Undefined: ranked by distance, not by rank in two searches. */
  fusion: Fusion | undefined;
  resultsMax: number;
  filter: Filter | undefined;
  /** Whether to compare every vector though there is an index. */
  isExact: boolean;
  /** `hnsw.ef_search`, 1 to 1,000; undefined: the session's. */
  efSearch: number | undefined;
}

/** What is to be joined with the search by vector, if there is one, and how much each of the two counts. */
export interface Fusion {
  /** The text whose words are searched for; undefined: by vector alone. */
  keywords: string | undefined;
  /** Text search configuration, such as "english". */
  language: string;
  /** 0 or more, not both 0. */
  vectorWeight: number;
  keywordsWeight: number;
}

/** A hit: the row and its score. */
export interface SearchHit {
  id: string;
  content: string;
  metadata: Record<string, unknown> | null;
  /** The file the row was cut from; null where the caller added it. */
  file_id: string | null;
  /** That file's name; null where the file is gone too. */
  filename: string | null;
  /** 0 to 1. */
  score: number;
}
