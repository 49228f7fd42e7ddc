import {
  GroupBy,
  type HybridSearch,
  type SearchReaders,
  type SearchRequest,
} from "../../gen/pgquiver/v1/search_pb.ts";
import { checkRange, checkText, checkLength } from "../api/checks.ts";
import { hashRequest } from "../api/page-token.ts";
import { readFields } from "../embeddings/query/request.ts";
import type { QueryFields } from "../embeddings/query/rows.ts";
import { checkVector } from "../embeddings/vector.ts";
import { invalidArgument, missingParameter } from "../errors.ts";
import { readFilter } from "../filters/message.ts";
import type { Filter } from "../filters/sql.ts";
import { limits } from "../limits.ts";
import type { FileGroups } from "./query.ts";
import { chunksOf } from "./results/files.ts";
import { readSearchPage, type SearchPosition } from "./page.ts";

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
  /** Its pages; undefined: all results are in one. */
  paging: Paging | undefined;
  /** Bytes of text and metadata that each ranking ends before; undefined: no limit. */
  bytesMax: number | undefined;
  /** The model that ranks the results anew; undefined: none. */
  ranker: string | undefined;
  /** Weight of how much results differ from each other, 0 to 1; 0: they are the best. */
  diversity: number;
  /** The fields to return. */
  fields: QueryFields;
  /** Chunks of its file before and after each result to return with it. */
  neighbors: number;
  /** Groups by file: `resultsMax` and `candidatesMax` count files. Undefined: they count embeddings. */
  groups: FileGroups | undefined;
  /** Results of the first ranking: as many as are asked for, or more where they are ranked anew or chosen from. */
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

/** The pages of a search by a single vector or text, ranked by distance. */
export interface Paging {
  /** Hash of what the pages depend on. */
  hash: Buffer;
  /** The last result of the page before; undefined: the first page. */
  after: SearchPosition | undefined;
}

const RANKERS = ["auto", "none", "default-2024-11-15", "default_2024_08_21"];

/** What a search is made on. */
export interface SearchBounds {
  /** The stored id of the store; undefined: there are several, whose merged results have one page. */
  storeId: string | undefined;
  /** The reranking models, the default first. */
  rankers: readonly string[];
}

/** Validates a search request. Throws INVALID_ARGUMENT. */
export function readSearch(request: SearchRequest, path: string, { storeId, rankers }: SearchBounds): Search {
  const { embedding, filters, rankingOptions, efSearch } = request;
  const resultsMax = readResultsMax(request, path);
  if (efSearch !== undefined) checkRange(`${path}ef_search`, efSearch, 1, limits.ef_search_max);
  const weights = readWeights(rankingOptions?.hybridSearch, `${path}ranking_options.hybrid_search.`);
  checkQuery(request, weights, path);
  const ranker = readRanker(request, rankers, `${path}ranking_options.ranker`);
  const scoreMin = rankingOptions?.scoreThreshold ?? 0;
  if (!(scoreMin >= 0 && scoreMin <= 1)) {
    const param = `${path}ranking_options.score_threshold`;
    throw invalidArgument(param, `Invalid '${param}': expected a number from 0 to 1.`);
  }
  const diversity = readDiversity(request, path);
  const groups = readGroups(request, resultsMax, path);
  checkCandidates(path, resultsMax * (groups?.size ?? 1), ranker, diversity);
  const search = {
    path,
    texts: request.query,
    vector: embedding.length === 0 ? undefined : checkVector(embedding, `${path}embedding`),
    weights,
    filter: filters === undefined ? undefined : readFilter(filters, `${path}filters`),
    resultsMax,
    ranker,
    scoreMin,
    diversity,
    groups,
    neighbors: readNeighbors(request, resultsMax * (groups?.size ?? 1), path),
    fields: readFields(request.include, `${path}include`),
    efSearch,
    isExact: request.exact ?? false,
    readers: readReaders(request.readers, `${path}readers.any_of`),
  };
  const paging = readPaging(request, search, storeId);
  const isChosen = ranker !== undefined || diversity > 0;
  // One more than the page has shows whether another follows.
  const candidatesMax = isChosen
    ? countCandidates(resultsMax, groups)
    : resultsMax + (paging === undefined ? 0 : 1);
  return { ...search, candidatesMax, paging, bytesMax: toBytesMax(search, candidatesMax, paging) };
}

function readGroups(
  { groupBy, groupSize = 1 }: SearchRequest,
  resultsMax: number,
  path: string,
): FileGroups | undefined {
  const param = `${path}group_size`;
  if (groupBy === undefined) {
    if (groupSize === 1) return undefined;
    throw missingParameter(`${path}group_by`);
  }
  if (groupBy !== GroupBy.FILE)
    throw invalidArgument(`${path}group_by`, `Invalid value: '${groupBy}'. Supported values are: 'file'.`);
  checkRange(param, groupSize, 1, limits.search_limit_max);
  if (resultsMax * groupSize <= limits.search_limit_max) return { size: groupSize };
  throw invalidArgument(
    param,
    `Invalid '${param}': ${groupSize} results of each of ${resultsMax} files are more than ${limits.search_limit_max}.`,
  );
}

function readNeighbors({ neighbors = 0 }: SearchRequest, resultsMax: number, path: string): number {
  const param = `${path}neighbors`;
  checkRange(param, neighbors, 0, limits.neighbors_max);
  const { passage_chunks_max: max } = limits;
  if (neighbors === 0 || resultsMax * (2 * neighbors + 1) <= max) return neighbors;
  throw invalidArgument(
    param,
    `Invalid '${param}': ${resultsMax} results with ${neighbors} chunks before and after each are more than ${max} chunks.`,
  );
}

function readDiversity({ diversity = 0 }: SearchRequest, path: string): number {
  if (diversity >= 0 && diversity <= 1) return diversity;
  throw invalidArgument(`${path}diversity`, `Invalid '${path}diversity': expected a number from 0 to 1.`);
}

/** Refuses more results than there are candidates. */
function checkCandidates(
  path: string,
  resultsMax: number,
  ranker: string | undefined,
  diversity: number,
): void {
  const { search_candidates_max: max } = limits;
  if (resultsMax <= max) return;
  const param = `${path}limit`;
  if (ranker !== undefined) {
    throw invalidArgument(
      param,
      `Invalid '${param}': '${ranker}' ranks at most ${max} results anew. Ask for fewer, or set '${path}ranking_options.ranker' to 'none'.`,
    );
  }
  if (diversity > 0)
    throw invalidArgument(param, `Invalid '${param}': '${path}diversity' chooses at most ${max} results.`);
}

function readResultsMax({ limit, maxNumResults }: SearchRequest, path: string): number {
  if (limit === undefined) {
    const resultsMax = maxNumResults ?? limits.search_results_default;
    checkRange(`${path}max_num_results`, resultsMax, 1, limits.search_results_max);
    return resultsMax;
  }
  if (maxNumResults !== undefined)
    throw invalidArgument(`${path}limit`, `Send either '${path}limit' or '${path}max_num_results'.`);
  checkRange(`${path}limit`, limit, 1, limits.search_limit_max);
  return limit;
}

/** The pages of a search; undefined: it has one. Results merged from several rankings are in no order that can go on. */
function readPaging(
  { limit, page }: SearchRequest,
  search: Omit<Search, "paging" | "bytesMax" | "candidatesMax">,
  storeId: string | undefined,
): Paging | undefined {
  const { path, texts, vector, weights, ranker, filter, scoreMin, efSearch, isExact, readers } = search;
  const param = `${path}page`;
  if (page !== undefined && limit === undefined) throw missingParameter(`${path}limit`);
  if (
    storeId === undefined ||
    limit === undefined ||
    texts.length > 1 ||
    weights !== undefined ||
    ranker !== undefined ||
    search.diversity > 0 ||
    search.groups !== undefined
  ) {
    if (page === undefined) return undefined;
    throw invalidArgument(
      param,
      `Invalid '${param}': only a search by one text or vector has pages, without 'hybrid_search', 'diversity' and 'group_by', and without a reranking model ('ranker': 'none').`,
    );
  }
  const hash = hashRequest([
    storeId,
    texts,
    vector && Array.from(vector),
    filter,
    scoreMin,
    efSearch,
    isExact,
    readers && [...readers].toSorted(),
  ]);
  return { hash, after: page === undefined ? undefined : readSearchPage(page, hash, param) };
}

/** 50 rows may be as large as they are: that bounds their bytes. */
function toBytesMax(
  { resultsMax, groups, weights }: Pick<Search, "resultsMax" | "groups" | "weights">,
  candidatesMax: number,
  paging: Paging | undefined,
): number | undefined {
  const rowsMax = paging === undefined ? countRows(candidatesMax, groups, weights) : resultsMax;
  if (rowsMax <= limits.search_results_max) return undefined;
  return paging === undefined ? limits.search_bytes_max : limits.page_bytes_max;
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

function countCandidates(resultsMax: number, groups: FileGroups | undefined): number {
  const { search_candidates_factor, search_candidates_min, search_candidates_max } = limits;
  const candidates = Math.max(search_candidates_min, search_candidates_factor * resultsMax);
  return Math.min(Math.floor(search_candidates_max / (groups?.size ?? 1)), candidates);
}

/** The most rows that a query for candidates gives. */
function countRows(
  candidatesMax: number,
  groups: FileGroups | undefined,
  weights: Weights | undefined,
): number {
  if (groups === undefined) return candidatesMax;
  return weights === undefined ? candidatesMax * groups.size : chunksOf(candidatesMax, groups);
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
