import type { HybridSearch, SearchReaders, SearchRequest } from "../../gen/pgquiver/v1/search_pb.ts";
import { checkRange, checkText, checkLength } from "../api/checks.ts";
import { checkVector } from "../embeddings/vector.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { readFilter } from "../filters/message.ts";
import type { Filter } from "../filters/sql.ts";
import { limits } from "../limits.ts";

/** A validated search request. Checks that need the store, such as dimensions, come later. */
export interface Search {
  /** Prefix of field names in error messages: "", or for example "searches[2].". */
  path: string;
  texts: string[];
  /** The caller's vector; undefined: the texts are embedded. */
  vector: Float32Array | undefined;
  /** Weights of a hybrid search; undefined: vector search only, scored by similarity. */
  weights: Weights | undefined;
  filter: Filter | undefined;
  resultsMax: number;
  /** The model that ranks the results anew; undefined: none. */
  ranker: string | undefined;
  /** Results of the first ranking: as many as are asked for, or more where they are ranked anew. */
  candidatesMax: number;
  scoreMin: number;
  efSearch: number | undefined;
  isExact: boolean;
  /** For whom the caller searches; undefined: as the caller's key or token says. */
  readers: ReadonlySet<string> | undefined;
}

/** Weights of the vector search and the keyword search: 0 to 1,000,000, not both 0. */
export interface Weights {
  vector: number;
  keywords: number;
}

const RANKERS = ["auto", "none", "default-2024-11-15", "default_2024_08_21"];

/** What the service allows of a search. */
export interface SearchBounds {
  /** The maximum of `max_num_results`. */
  resultsLimit: number;
  /** The reranking models, the default first. */
  rankers: readonly string[];
}

/** Validates a search request. Throws INVALID_ARGUMENT. */
export function readSearch(
  request: SearchRequest,
  path: string,
  { resultsLimit, rankers }: SearchBounds,
): Search {
  const { embedding, filters, rankingOptions, efSearch } = request;
  const resultsMax = request.maxNumResults ?? limits.search_results_default;
  checkRange(`${path}max_num_results`, resultsMax, 1, resultsLimit);
  if (efSearch !== undefined) checkRange(`${path}ef_search`, efSearch, 1, limits.ef_search_max);
  const weights = readWeights(rankingOptions?.hybridSearch, `${path}ranking_options.hybrid_search.`);
  checkQuery(request, weights, path);
  const ranker = readRanker(request, rankers, `${path}ranking_options.ranker`);
  const scoreMin = rankingOptions?.scoreThreshold ?? 0;
  if (!(scoreMin >= 0 && scoreMin <= 1)) {
    const param = `${path}ranking_options.score_threshold`;
    throw invalidArgument(param, `Invalid '${param}': expected a number from 0 to 1.`);
  }
  return {
    path,
    texts: request.query,
    vector: embedding.length === 0 ? undefined : checkVector(embedding, `${path}embedding`),
    weights,
    filter: filters === undefined ? undefined : readFilter(filters, `${path}filters`),
    resultsMax,
    ranker,
    candidatesMax: ranker === undefined ? resultsMax : countCandidates(resultsMax),
    scoreMin,
    efSearch,
    isExact: request.exact ?? false,
    readers: readReaders(request.readers, `${path}readers.any_of`),
  };
}

/**
 * Whether the texts of a search must be embedded: there is no vector, and the vector search has some weight.
 */
export function needsEmbedding({ vector, weights }: Search): boolean {
  return vector === undefined && weights?.vector !== 0;
}

function checkQuery({ query, embedding }: SearchRequest, weights: Weights | undefined, path: string): void {
  const param = `${path}query`;
  const needsText = embedding.length === 0 || (weights !== undefined && weights.keywords > 0);
  if (query.length === 0 && needsText) throw missingParameter(param);
  if (query.length > 0 && embedding.length > 0 && weights === undefined) {
    throw invalidArgument(
      `${path}embedding`,
      `Send either '${param}' or '${path}embedding', or both with '${path}ranking_options.hybrid_search'.`,
    );
  }
  const textsMax = embedding.length > 0 ? 1 : limits.search_queries_max;
  checkLength(param, query.length, textsMax);
  for (const [index, text] of query.entries()) {
    const textParam = query.length === 1 ? param : `${param}[${index}]`;
    if (text.trim() === "")
      throw invalidArgument(textParam, `Invalid '${textParam}': expected a text that is not empty.`);
    checkText(text, textParam, limits.query_chars_max);
  }
}

function readReaders(readers: SearchReaders | undefined, param: string): ReadonlySet<string> | undefined {
  if (readers === undefined) return undefined;
  checkLength(param, readers.anyOf.length, limits.token_words_max);
  for (const [index, reader] of readers.anyOf.entries())
    checkText(reader, `${param}[${index}]`, limits.attribute_value_chars_max);
  return new Set(readers.anyOf);
}

function readRanker(
  { query, rankingOptions }: SearchRequest,
  rankers: readonly string[],
  param: string,
): string | undefined {
  const name = rankingOptions?.ranker ?? "auto";
  if (name === "none") return undefined;
  // A search by a vector alone has no text to rank by.
  if (RANKERS.includes(name)) return query.length === 0 ? undefined : rankers[0];
  if (!rankers.includes(name)) {
    const supported = [...RANKERS, ...rankers].map((each) => `'${each}'`).join(", ");
    throw invalidArgument(param, `Invalid value: '${name}'. Supported values are: ${supported}.`);
  }
  if (query.length > 0) return name;
  throw invalidArgument(param, `Invalid '${param}': '${name}' ranks by a text, and the search has none.`);
}

function countCandidates(resultsMax: number): number {
  const { rerank_candidates_factor, rerank_candidates_min, rerank_candidates_max } = limits;
  const candidates = Math.max(rerank_candidates_min, rerank_candidates_factor * resultsMax);
  return Math.min(rerank_candidates_max, candidates);
}

function readWeights(hybrid: HybridSearch | undefined, path: string): Weights | undefined {
  if (hybrid === undefined) return undefined;
  const read = (weight: number | undefined, name: string) => {
    const param = `${path}${name}`;
    if (weight === undefined) throw missingParameter(param);
    if (weight >= 0 && weight <= limits.search_weight_max) return weight;
    throw invalidArgument(
      param,
      `Invalid '${param}': expected a number from 0 to ${limits.search_weight_max}.`,
    );
  };
  const vector = read(hybrid.embeddingWeight, "embedding_weight");
  const keywords = read(hybrid.textWeight, "text_weight");
  if (vector + keywords > 0) return { vector, keywords };
  const param = `${path}embedding_weight`;
  throw invalidArgument(param, `Invalid '${param}': one of the two weights must be more than 0.`);
}
