import { attributeIndexName, attributeOf } from "../filters/attribute-index.ts";
import { countMatches, indexablePart } from "../filters/share.ts";
import { isIndexedByMetadata, type Filter } from "../filters/sql.ts";
import type { MetadataSample } from "./metadata-samples.ts";

/**
 * Cost of a filtered search in rows read one after the other by an exact search: of a vector that a scan of the
 * HNSW index visits, and of a row collected by an index on metadata. Measured as CPU time of PostgreSQL 17 with
 * pgvector 0.8.0 on two cores, 1,000 to 100,000 rows of 384 dimensions: 0.75 to 1.0 microseconds for a row
 * read, 3.7 to 5 for a vector visited, 1.5 to 2 for a row collected.
 */
const VISIT_COST = 5;
const COLLECT_COST = 2;

/**
 * Matches assumed of a sample without any: between none and one, so that in a store of millions of rows a walk
 * is tried before all are read.
 */
const MATCHES_MIN = 0.5;

/**
 * Decides how to search a store with an index under a filter that leaves some of its rows: by a walk, a scan of
 * the HNSW index that visits vectors nearest first until `candidates` of them match, or by reading all matching
 * rows, which an index on metadata may collect. Returns the number of vectors after which the walk gives up; 0: read
 * the rows.
 *
 * A walk meets a match at every (rows / matches)th vector, so it is cheap for a weak filter and expensive for a
 * strong one. It gives up when it has cost as much as reading the rows: with a wrong estimate the walk and the
 * reading that follows together cost twice the better of both.
 */
export function planWalk(filter: Filter, sample: MetadataSample, candidates: number): number {
  const shareOf = (part: Filter) =>
    Math.max(MATCHES_MIN, countMatches(part, sample.columns, sample.rows)) / Math.max(1, sample.rows);
  const collected = indexablePart(filter, (comparison) => {
    const attribute = attributeOf(comparison);
    if (attribute === undefined) return isIndexedByMetadata(comparison);
    return sample.attributeIndexes.has(attributeIndexName(sample.table, attribute));
  });
  const share = shareOf(filter);
  const collectedShare = collected === undefined ? 1 : collected === filter ? share : shareOf(collected);
  const visitsMax = (Math.min(1, COLLECT_COST * collectedShare) * sample.storeRows) / VISIT_COST;
  return candidates / share <= visitsMax ? Math.ceil(visitsMax) : 0;
}
