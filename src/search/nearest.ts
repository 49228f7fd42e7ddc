import type { Tables } from "../postgres/tables.ts";
import { vectorExpression, type Precision } from "../postgres/vector-index.ts";
import { bind } from "../filters/sql.ts";
import { EF_SEARCH_DEFAULT } from "../postgres/search-settings.ts";
import type { SearchPosition } from "./page.ts";

/** The HNSW index to use for a search. */
export interface SearchIndex {
  precision: Precision;
  dimensions: number;
  /** Number of vectors after which a scan gives up; undefined: the session's `hnsw.max_scan_tuples`. */
  visitsMax?: number | undefined;
}

/** Settings of pgvector for one index scan, by name; others stay those of the session. */
export type ScanSettings = Record<string, number>;

/**
 * Number of candidate rows to fetch from an index for `rowsMax` results; candidates are re-ranked by the
 * stored vectors in full precision. Measured on 100,000 vectors of 1,536 dimensions in 100 clusters, as
 * recall@10: float16 equals float32, and fetching twice the rows corrects the order of near ties for 10 %
 * more time. Binary quantisation distinguishes little within a cluster: 100 candidates give 0.43, 200 give
 * 0.64, 400 give 0.84, 800 give 0.98 in 12 ms instead of 4; for 50 results, 1,000 candidates give 0.99.
 *
 * One scan of the index finds `efSearch` rows, and each further row begins a second scan. Where the request or the
 * recall tuner has chosen fewer than twice the rows, float16 does without: 10 results at 16 of 20,000 rows of 384
 * dimensions cost Postgres 0.50 ms of CPU instead of 0.64, at recall 0.995 instead of 0.9995; without the service 0.42.
 * Under a filter a scan finds only those of the rows that match, so then `rowsMax` are enough: where half the rows match,
 * 0.83 ms instead of 1.07.
 */
export function countCandidates(
  precision: Precision,
  rowsMax: number,
  efSearch?: number,
  isFiltered = false,
): number {
  if (precision === "float32") return rowsMax;
  if (precision === "binary") return Math.max(800, 20 * rowsMax);
  // For more results, what a scan finds is chosen by their number: see `efSearchOf`.
  if (efSearch === undefined || rowsMax > EF_SEARCH_DEFAULT) return 2 * rowsMax;
  return efSearch < 2 * rowsMax && isFiltered ? rowsMax : Math.max(rowsMax, Math.min(2 * rowsMax, efSearch));
}

/**
 * SELECT of a store's rows nearest to a vector: `columns` and the cosine `distance`, nearest first, ties by
 * id. A zero vector has distance NaN, which Postgres sorts last, and is in no index.
 *
 * Rows must meet the SQL `condition`. Without an index every such row is compared (exact search). With an
 * index the planner may still choose another one when it expects few rows to meet the condition.
 */
export function selectNearest(
  tables: Tables,
  columns: readonly string[],
  vector: string,
  { condition, isFiltered, rowsMax, index, after, scan = {} }: Nearest,
  params: unknown[],
): string {
  const ranked = (source: string) =>
    `select ${columns.join(", ")}, ${tables.embedding} <=> ${vector} as distance from ${source}`;
  // LIMIT has a literal: for a parameter, the generic plan of a prepared statement assumes a tenth of the rows, and
  // so the planner, to which that plan then seems dear, would go on planning each search, which takes 0.2 ms.
  const best = `order by distance, ${tables.id} limit ${rowsMax}`;
  if (index === undefined) {
    const compared = `${ranked(`only ${tables.embeddings}`)} where ${condition}`;
    if (after === undefined) return `${compared} ${best}`;
    // OFFSET 0 keeps the planner from computing each distance twice.
    return `select * from (${compared} offset 0) compared
      where (distance, ${tables.id}) > (${bind(params, after.distance, "float8")}, ${bind(params, after.id, "text")}) ${best}`;
  }
  const { indexed, operator, query } = vectorExpression(tables.embedding, index.precision, index.dimensions);
  const target = afterSettings(query(vector), scan, params);
  const candidates = countCandidates(index.precision, rowsMax, scan["hnsw.ef_search"], isFiltered);
  // An HNSW index serves only ORDER BY the bare operator with LIMIT, in approximate order: the outer query
  // re-ranks.
  return `${ranked(`(select ${columns.join(", ")}, ${tables.embedding} from only ${tables.embeddings} where ${condition}
      order by ${indexed} ${operator} ${target} limit ${candidates}) candidates`)}
    ${best}`;
}

/** Which rows to select. */
interface Nearest {
  /** SQL condition that rows must meet. */
  condition: string;
  /** Whether rows of the index may fail to meet it. */
  isFiltered: boolean;
  rowsMax: number;
  /** Undefined: an exact search. */
  index: SearchIndex | undefined;
  /** Where the rows begin; undefined: with the nearest. Exact searches only. */
  after?: SearchPosition | undefined;
  scan?: ScanSettings;
}

/**
 * SQL expression of the vector to search for, whose evaluation sets `settings` until the end of the transaction,
 * which is that of the statement outside of a transaction block. An index scan evaluates the expression before it
 * begins, and pgvector reads the settings later, so no round trip of its own is needed for them. A subquery
 * without references to the outer query is evaluated once, as an InitPlan.
 */
function afterSettings(vector: string, settings: ScanSettings, params: unknown[]): string {
  const set = Object.entries(settings).map(
    ([name, value]) => `set_config('${name}', ${bind(params, String(value), "text")}, true) is not null`,
  );
  return set.length === 0 ? vector : `(select case when ${set.join(" and ")} then ${vector} end)`;
}
