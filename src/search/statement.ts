import { hash } from "node:crypto";
import type { Tables } from "../postgres/tables.ts";
import { planForValues } from "../postgres/custom-plan.ts";
import { bind, compileFilter, compileRange, type Filter } from "../filters/sql.ts";
import { asksForWords, wordsOf } from "../filters/words.ts";
import { selectMatching } from "./keywords/matching.ts";
import { RECALL_RESULTS } from "../storage/recall.ts";
import { EF_SEARCH_DEFAULT } from "../postgres/search-settings.ts";
import { RANK_OFFSET } from "./merge.ts";
import { selectNearest, type ScanSettings, type SearchIndex } from "./nearest.ts";
import type { FileGroups, Fusion, SearchQuery } from "./query.ts";
import { chunksOf } from "./results/files.ts";
import { limits } from "../limits.ts";
import type { StoredPlace } from "../storage/embeddings.ts";
import type { SearchedStore } from "../storage/stores.ts";

/** A query config of node-postgres. */
export interface Statement {
  text: string;
  values: unknown[];
  /** Name of the prepared statement; absent: not prepared. */
  name?: string;
}

/** A result row of the search statement; without hits, a single row whose `id` is null. */
export interface FoundRow {
  /** Whether the cached store row equals the current one; otherwise the hits must be discarded. */
  is_current: boolean;
  has_expired: boolean;
  id: string | null;
  content: string;
  metadata: Record<string, unknown> | null;
  file_id: string | null;
  place: StoredPlace;
  filename: string | null;
  /** Cosine distance, 0 to 2 or NaN; for a hybrid search, the fused score. */
  value: number;
  /** The vector in pgvector's binary format; absent where the query does not ask for vectors. */
  vector?: Buffer | null;
  /** Number of hits, those beyond `bytesMax` included; absent where there is no such limit. */
  found?: string | null;
  /**
   * For a hybrid search: whether its vector part found fewer rows than its number of candidates; for one by file:
   * whether there are fewer files than asked for.
   */
  is_short?: boolean | null;
}

/** Bounds of the candidates that each part of a hybrid search contributes: twice the results asked for. */
const CANDIDATES_MIN = 20;
const CANDIDATES_MAX = 100;

/**
 * Composes the single statement of a search. One snapshot gives both the hits, best first, and the check of
 * the cached store row. No result row at all means that the store is deleted. `tables` must be placed for the
 * store. With `isMixed` the vector search leaves out vectors that have not the store's dimensions.
 */
export function composeSearch(
  tables: Tables,
  store: SearchedStore,
  query: SearchQuery,
  index: SearchIndex | undefined,
  isMixed = false,
): Statement {
  const values: unknown[] = [];
  const id = bind(values, store.id, "text");
  const { bounded, plan } = composeHits(tables, store, query, index, isMixed, id, values);
  const anew = plan === "custom" ? `and ${planForValues(bind(values, true, "boolean"))}` : "";
  const text = `select ${checkColumns(store, values)}, hits.*,
      case when hits.file_id is not null then (select filename from ${tables.files} as files where files.id = hits.file_id) end as filename
      ${query.hasVectors === true ? `, ${selectVector(tables)} as vector` : ""}
    from ${tables.vectorStores} as stores left join (${bounded}) hits on true
    where stores.id = ${id} ${anew} order by hits.value ${directionOf(query)}, hits.id`;
  return plan !== undefined ? { name: nameStatement(text), text, values } : { text, values };
}

/** Columns that tell whether the cached store row is that of the table, and whether the store has expired. */
export function checkColumns(store: SearchedStore, values: unknown[]): string {
  const assumed = [
    bind(values, store.dimensions, "int"),
    bind(values, store.embedding_model, "text"),
    bind(values, store.language, "text"),
    bind(values, store.own_table, "text"),
    bind(values, store.index_precision, "text"),
    bind(values, store.ef_search, "int"),
    bind(values, store.filtered_ef_search, "int"),
    bind(values, store.restricts_readers, "boolean"),
  ];
  return `(dimensions, embedding_model, language, own_table, index_precision, ef_search, filtered_ef_search,
          restricts_readers)
        is not distinct from (${assumed.join(", ")}) as is_current,
      coalesce(expires_at <= now(), false) as has_expired`;
}

/** SELECT of the hits; `id` is the store's id as an SQL expression. */
export function composeHits(
  tables: Tables,
  store: SearchedStore,
  query: SearchQuery,
  index: SearchIndex | undefined,
  isMixed: boolean,
  id: string,
  values: unknown[],
): { bounded: string; plan: Plan | undefined } {
  const { filter, fusion } = query;
  // A store's own table holds only its rows. Without a condition on the store id, the planner cannot prefer
  // the primary key over the HNSW index.
  // Whether a sample of the metadata has decided that the vector index leads: then no other index is to be asked.
  const isWalk = filter !== undefined && index?.visitsMax !== undefined && !asksForWords(filter);
  const plan = planOf(query, isMixed, isWalk);
  // The planner does not look into the subquery. Knowing the store, it would expect fewer rows of a small one than
  // the generic plan does, take that plan for dear, and plan each search, which takes 0.2 ms.
  const same = plan === "generic" ? `(select ${id})` : id;
  const conditions = store.own_table === null ? [`${tables.vectorStoreId} = ${same}`] : [];
  if (filter !== undefined) conditions.push(compileCondition(tables, store, query, filter, values));
  const comparable = isMixed
    ? [...conditions, `vector_dims(${tables.embedding}) = ${bind(values, store.dimensions, "int")}`]
    : conditions;
  const rows = {
    condition: joinConditions(conditions),
    // No index serves COALESCE, of which the planner expects half the rows whatever is in it.
    nearestCondition: isWalk ? `coalesce(${joinConditions(comparable)}, false)` : joinConditions(comparable),
    isFiltered: filter !== undefined,
    index,
    scan: scanSettingsOf(store, query, index),
  };
  const hits =
    fusion === undefined
      ? query.files === undefined
        ? selectByDistance(tables, query, rows, values)
        : selectByFile(tables, store, query, query.files, rows, values)
      : selectByRank(tables, store, query, fusion, rows, values);
  const bounded =
    query.bytesMax === undefined ? hits : boundBytes(hits, query, store.dimensions, query.bytesMax, values);
  return { bounded, plan };
}

/** By which plan Postgres runs a prepared statement: one for the values of each execution, or one for all. */
type Plan = "custom" | "generic";

/**
 * How a search is prepared. Without a filter, or where the vector index leads anyway (a walk) or that of an attribute (a range),
 * by a generic plan, which saves a third of the time that Postgres takes and more: the best plan is the same for all values.
 * With another filter, by a custom one: the filter's values decide which index is best. Undefined: it is not prepared, as pages, large results and joined parts
 * are of too many kinds.
 */
function planOf(
  { filter, range, fusion, after, files, bytesMax }: SearchQuery,
  isMixed: boolean,
  isWalk: boolean,
): Plan | undefined {
  if (fusion !== undefined || isMixed || after !== undefined || files !== undefined || bytesMax !== undefined)
    return undefined;
  return filter === undefined || isWalk || range !== undefined ? "generic" : "custom";
}

function compileCondition(
  tables: Tables,
  store: SearchedStore,
  { language, range }: SearchQuery,
  filter: Filter,
  values: unknown[],
): string {
  if (range !== undefined) return compileRange(range.conditions, tables.metadata, values);
  const words = language === undefined ? undefined : wordsOf(tables, store, language);
  return compileFilter(filter, tables.metadata, values, words);
}

/** The direction in which `value` ranks: the least distance, or the highest fused score, first. */
export function directionOf({ fusion }: SearchQuery): string {
  return fusion === undefined ? "" : "desc";
}

/** SELECT of a hit's vector by the primary key: to sort all rows with their vectors would copy the vectors. */
function selectVector(tables: Tables): string {
  return `(select vector_send(vectors.${tables.embedding}) from only ${tables.embeddings} as vectors
    where vectors.${tables.vectorStoreId} = stores.id and vectors.${tables.id} = hits.id)`;
}

/**
 * The `hnsw.ef_search` of a search: the request's own or the store's; undefined: the session's setting. What was tuned
 * for ten results may be too little for more, and the session's setting for more than it counts.
 */
export function efSearchOf(
  { ef_search, filtered_ef_search }: SearchedStore,
  query: Pick<SearchQuery, "efSearch" | "filter" | "fusion" | "resultsMax" | "files">,
): number | undefined {
  if (query.efSearch !== undefined) return query.efSearch;
  const tuned = query.filter === undefined ? ef_search : filtered_ef_search;
  const needed = nearestMax(query);
  if (needed > EF_SEARCH_DEFAULT) return Math.min(limits.ef_search_max, Math.max(tuned ?? 0, needed));
  if (tuned === null || (tuned < EF_SEARCH_DEFAULT && needed > RECALL_RESULTS)) return undefined;
  return tuned;
}

/** Settings of pgvector for the index scan of a search. */
export function scanSettingsOf(
  store: SearchedStore,
  query: SearchQuery,
  index: SearchIndex | undefined,
): ScanSettings {
  const efSearch = efSearchOf(store, query);
  return {
    ...(efSearch !== undefined && { "hnsw.ef_search": efSearch }),
    ...(index?.visitsMax !== undefined && { "hnsw.max_scan_tuples": index.visitsMax }),
  };
}

/** The first of the hits that have at most `bytesMax` of text, metadata, places and vectors together, and the number of all hits. */
function boundBytes(
  hits: string,
  query: SearchQuery,
  dimensions: number | null,
  bytesMax: number,
  values: unknown[],
): string {
  const vectorBytes = query.hasVectors === true ? Float32Array.BYTES_PER_ELEMENT * (dimensions ?? 0) : 0;
  const order = `order by value ${directionOf(query)}, id`;
  return `select * from (
      select *, count(*) over () as found, sum(octet_length(content) + coalesce(octet_length(metadata::text), 0) + coalesce(octet_length(place::text), 0) + ${vectorBytes})
        over (${order} rows between unbounded preceding and 1 preceding) as preceding_bytes
      from (${hits}) hits) hits
    where preceding_bytes is null or preceding_bytes <= ${bind(values, bytesMax, "bigint")}`;
}

/** A name that differs for different texts: that of a store's own table is in the text, and so are limits. */
export function nameStatement(text: string): string {
  return `search_${hash("sha1", text)}`;
}

interface Rows {
  /** SQL condition that rows must meet. */
  condition: string;
  /** SQL condition that rows must meet whose vectors are compared. */
  nearestCondition: string;
  isFiltered: boolean;
  index: SearchIndex | undefined;
  scan: ScanSettings;
}

function joinConditions(conditions: readonly string[]): string {
  return conditions.length === 0 ? "true" : conditions.join(" and ");
}

function selectByDistance(tables: Tables, query: SearchQuery, rows: Rows, values: unknown[]): string {
  const texts = query.hasTexts === false ? [] : [tables.content];
  const columns = [tables.id, ...texts, tables.metadata, "file_id", "chunk_place"];
  const vector = bind(values, query.vector, "vector");
  return `select ${hitColumns(tables, query)}, distance as value
      from (${selectNearest(tables, columns, vector, { ...rows, condition: rows.nearestCondition, rowsMax: query.resultsMax, after: query.after }, values)}) nearest`;
}

/** The nearest rows of each of the nearest files, both of all rows or, through an index, of its candidates. */
function selectByFile(
  tables: Tables,
  store: SearchedStore,
  query: SearchQuery,
  { size }: FileGroups,
  rows: Rows,
  values: unknown[],
): string {
  const vector = bind(values, query.vector, "vector");
  const columns = [tables.id, "file_id"];
  const nearest = { ...rows, condition: rows.nearestCondition, rowsMax: nearestMax(query) };
  const compared =
    rows.index === undefined
      ? `select ${columns.join(", ")}, ${tables.embedding} <=> ${vector} as distance
        from only ${tables.embeddings} where ${rows.nearestCondition}`
      : selectNearest(tables, columns, vector, nearest, values);
  const filesMax = bind(values, query.resultsMax, "int");
  const file = `coalesce(file_id, ${tables.id}), file_id is null`;
  return `with compared as materialized (${compared}),
      files as materialized (
        select coalesce(file_id, ${tables.id}) as file, file_id is null as is_embedding, min(distance) as nearest
        from compared group by file, is_embedding order by nearest, file limit ${filesMax}),
      best as (
        select ${tables.id}, distance, row_number() over (partition by ${file} order by distance, ${tables.id}) as position
        from compared where (${file}) in (select file, is_embedding from files))
    select ${hitColumns(tables, query)}, distance as value, (select count(*) from files) < ${filesMax} as is_short
    from best join only ${tables.embeddings} using (${tables.id})
    where position <= ${bind(values, size, "int")} and ${tables.vectorStoreId} = ${bind(values, store.id, "text")}`;
}

/** Number of nearest rows that the vector part of a search needs. */
export function nearestMax({
  resultsMax,
  fusion,
  files,
}: {
  resultsMax: number;
  fusion: object | undefined;
  files?: FileGroups | undefined;
}): number {
  if (files !== undefined) return chunksOf(resultsMax, files);
  if (fusion === undefined) return resultsMax;
  return Math.max(resultsMax, Math.min(CANDIDATES_MAX, Math.max(CANDIDATES_MIN, 2 * resultsMax)));
}

/** Weighted reciprocal rank fusion, scaled so that a row that is first in both searches has score 1. */
function selectByRank(
  tables: Tables,
  store: SearchedStore,
  query: SearchQuery,
  { keywords, language, vectorWeight, keywordsWeight }: Fusion,
  rows: Rows,
  values: unknown[],
): string {
  const { vector, resultsMax } = query;
  const rowsMax = nearestMax(query);
  const searches: string[] = [];
  const ranked: string[] = [];
  const share = (weight: number) => bind(values, weight / (vectorWeight + keywordsWeight), "float8");
  if (vector !== undefined) {
    const nearest = selectNearest(
      tables,
      [tables.id],
      bind(values, vector, "vector"),
      { ...rows, condition: rows.nearestCondition, rowsMax },
      values,
    );
    searches.push(`nearest as materialized (
      select ${tables.id}, row_number() over (order by distance, ${tables.id}) as position from (${nearest}) found)`);
    ranked.push(`select ${tables.id}, position, ${share(vectorWeight)} as share from nearest`);
  }
  if (keywords !== undefined) {
    const search = {
      text: keywords,
      language,
      condition: rows.condition,
      rowsMax,
      hasWords: store.own_table !== null && store.has_words,
      storeId: store.id,
      storeRows: query.storeRows,
      isAlone: vector === undefined,
    };
    searches.push(selectMatching(tables, search, values));
    ranked.push(`select ${tables.id}, position, ${share(keywordsWeight)} as share from matching`);
  }
  const isShort =
    vector === undefined ? "false" : `(select count(*) from nearest) < ${bind(values, rowsMax, "int")}`;
  return `with ${searches.join(",\n")},
      best as materialized (
        select ${tables.id}, sum(share * ${RANK_OFFSET + 1} / (${RANK_OFFSET} + position)) as value
        from (${ranked.join(" union all ")}) ranked
        group by ${tables.id} order by value desc, ${tables.id} limit ${bind(values, resultsMax, "int")})
    select ${hitColumns(tables, query)}, value, ${isShort} as is_short from best join only ${tables.embeddings} using (${tables.id})
    where ${tables.vectorStoreId} = ${bind(values, store.id, "text")}`;
}

function hitColumns(tables: Tables, { hasTexts = true }: SearchQuery): string {
  return `${tables.id} as id, ${hasTexts ? tables.content : "''"} as content, ${tables.metadata} as metadata, file_id,
    chunk_place as place`;
}
