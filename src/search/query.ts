import type { Range } from "../filters/attribute-index.ts";
import type { Filter } from "../filters/sql.ts";
import { asksForWords } from "../filters/words.ts";
import type { StoredPlace } from "../storage/embeddings.ts";
import type { SearchPosition } from "./page.ts";

/** A search by vector, by keywords, or by both. */
export interface SearchQuery {
  /** The vector in pgvector's binary format, which is faster than text; undefined: keyword search only. */
  vector: Buffer | undefined;
  /** Undefined: results are ranked by distance, without rank fusion. */
  fusion: Fusion | undefined;
  resultsMax: number;
  /** Groups by file: `resultsMax` counts files. Undefined, and with a fusion: it counts rows. */
  files?: FileGroups | undefined;
  /** Results before this place are left out; undefined: none are. The search must be exact, and has no fusion. */
  after?: SearchPosition | undefined;
  /** Bytes of text and metadata that the results end before, with one result at least; undefined: no limit. */
  bytesMax?: number | undefined;
  /** Whether the results come with their texts, else the texts are empty; default true. */
  hasTexts?: boolean | undefined;
  /** Whether the results come with their vectors; default false. */
  hasVectors?: boolean | undefined;
  filter: Filter | undefined;
  /** The same as the filter, where the index of an attribute collects the rows that match; undefined: none does. */
  range?: Range | undefined;
  /** Postgres text search configuration of the store, which a filter by words needs. */
  language?: string | undefined;
  /** Whether to compare every vector (exact search) even if the store has an index. */
  isExact: boolean;
  /** `hnsw.ef_search`, 1 to 1,000; undefined: the store's. */
  efSearch: number | undefined;
  /**
   * Number of rows of the store, which a search by the words of an own table on another node must be given, since its
   * statement reads no other table; undefined: the statement reads the number.
   */
  storeRows?: number | undefined;
}

/** Results by file: the most rows of each. */
export interface FileGroups {
  size: number;
}

/**
 * Hybrid search: a keyword search to fuse with the vector search, if there is one, and the weights of both.
 */
export interface Fusion {
  /** The text whose words are searched for; undefined: vector search only. */
  keywords: string | undefined;
  /** Postgres text search configuration, such as "english". */
  language: string;
  /** Weights, 0 or more; one of them is more than 0. */
  vectorWeight: number;
  keywordsWeight: number;
}

/** The text search configuration by which a search splits texts into words; undefined: it looks at no words. */
export function splittingLanguage({ fusion, filter, language }: SearchQuery): string | undefined {
  if (fusion?.keywords !== undefined) return fusion.language;
  return filter !== undefined && asksForWords(filter) ? language : undefined;
}

/** A chunk of a file and the chunks around it. */
export interface Passage {
  /** Their texts, joined in order. */
  text: string;
  firstChunk: number;
  lastChunk: number;
}

/** A search result: a row and its score. */
export interface SearchHit {
  id: string;
  content: string;
  metadata: Record<string, unknown> | null;
  /** Id of the file that the row is a chunk of; null: the caller added the row. */
  file_id: string | null;
  /** Where it stands in that file. */
  place: StoredPlace;
  /** Name of that file; null when there is no file, or the file was deleted. */
  filename: string | null;
  /** 0 to 1. */
  score: number;
  /** What ranks the row: its distance, or the fused score. */
  value: number;
  /** Its vector in pgvector's binary format; undefined: the query did not ask for vectors. */
  vector?: Buffer | undefined;
  /** Undefined: the search did not ask for passages, or the row is no chunk of a file. */
  passage?: Passage | undefined;
}
