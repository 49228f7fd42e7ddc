import {
  attributeIndexName,
  attributeOf,
  rangeOf,
  type Attribute,
  type Range,
} from "../filters/attribute-index.ts";
import { countMatches, indexablePart } from "../filters/share.ts";
import { isIndexedByMetadata, type Filter } from "../filters/sql.ts";
import { EF_SEARCH_DEFAULT } from "../postgres/search-settings.ts";
import type { MetadataSample } from "./metadata-samples.ts";

/**
 * Cost of a filtered search in rows read one after the other by an exact search: of a vector that a scan of the
 * HNSW index returns, and of a row collected by an index on metadata. Measured with PostgreSQL 17 and pgvector 0.8.0
 * on two idle cores, in rows of 384 dimensions: 0.3 (20,000 rows) to 0.7 microseconds (100,000) for a row read, 10 to
 * 12 for a vector returned; 1.5 to 2 for a row collected where one read took 0.75 to 1.0. A walk that goes far also finds
 * less: among 20,000 rows in 100 clusters 1.00 of the nearest ten under a filter that leaves a tenth of them, 0.985
 * where it leaves 5 %, 0.96 at 2 %, and 0.75 at 1 % of other clusters.
 */
const VISIT_COST = 25;
const COLLECT_COST = 2;

/**
 * Matches assumed of a sample without any: between none and one, so that in a store of millions of rows a walk
 * is tried before all are read.
 */
const MATCHES_MIN = 0.5;

/**
 * Cost, in rows read, from which an index on an attribute is worth its writes, about 4 ms; and how much cheaper
 * the search must become.
 */
const DEMAND_COST = 5_000;
const DEMAND_GAIN = 4;

/** How to search under a filter. */
export interface FilterPlan {
  /** Vectors that a scan of the vector index may visit; 0: read the matching rows. */
  visitsMax: number;
  /** The filter, where the index of an attribute collects all rows that match and no other; undefined: none does. */
  range?: Range | undefined;
  /** Attributes by whose index the search would be much cheaper, if they had one. */
  lacking: Attribute[];
}

/**
 * Decides how to search a store with an index under a filter that leaves some of its rows: by a walk, a scan of
 * the HNSW index that visits vectors nearest first, `efSearch` at least, until `candidates` of them match, or by
 * reading all matching rows, which an index on metadata may collect.
 *
 * A walk meets a match at every (rows / matches)th vector, so it is cheap for a weak filter and expensive for a
 * strong one. It gives up when it has cost as much as reading the rows: with a wrong estimate the walk and the
 * reading that follows together cost twice the better of both.
 */
export function planFiltered(
  filter: Filter,
  sample: MetadataSample,
  candidates: number,
  efSearch = EF_SEARCH_DEFAULT,
): FilterPlan {
  const shareOf = (part: Filter) =>
    Math.max(MATCHES_MIN, countMatches(part, sample.columns, sample.rows)) / Math.max(1, sample.rows);
  const isIndexed = (attribute: Attribute) =>
    sample.attributeIndexes.has(attributeIndexName(sample.table, attribute));
  const collected = indexablePart(filter, (comparison) => {
    const attribute = attributeOf(comparison);
    return attribute === undefined ? isIndexedByMetadata(comparison) : isIndexed(attribute);
  });
  const share = shareOf(filter);
  const collectedShare = collected === undefined ? 1 : collected === filter ? share : shareOf(collected);
  const reading = Math.min(1, COLLECT_COST * collectedShare) * sample.storeRows;
  const walking = VISIT_COST * Math.max(efSearch, candidates / share);
  const cost = Math.min(reading, walking);
  const range = rangeOf(filter);
  return {
    ...(range !== undefined && isIndexed(range.attribute) && { range }),
    visitsMax: walking <= reading ? Math.ceil(reading / VISIT_COST) : 0,
    lacking:
      cost < DEMAND_COST
        ? []
        : orderedParts(filter)
            .filter(({ attribute }) => !isIndexed(attribute))
            .filter(({ part }) => DEMAND_GAIN * COLLECT_COST * shareOf(part) * sample.storeRows <= cost)
            .map(({ attribute }) => attribute),
  };
}

/** The conditions of order that every matching row meets, by attribute. */
function orderedParts(filter: Filter): { attribute: Attribute; part: Filter }[] {
  const parts = new Map<string, { attribute: Attribute; part: { type: "and"; filters: Filter[] } }>();
  const add = (node: Filter) => {
    if (node.type === "and") return node.filters.forEach(add);
    const attribute = "filters" in node ? undefined : attributeOf(node);
    if (attribute === undefined) return;
    const name = JSON.stringify([attribute.key, attribute.type]);
    const known = parts.get(name) ?? { attribute, part: { type: "and", filters: [] } };
    known.part.filters.push(node);
    parts.set(name, known);
  };
  add(filter);
  return [...parts.values()];
}
