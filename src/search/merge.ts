import type { SearchHit } from "./query.ts";

/** Merges the hits of several searches of a store: each row once, with its best score, best first, ties by id. */
export function mergeBest(found: readonly { hits: readonly SearchHit[] }[]): readonly SearchHit[] {
  const [only] = found;
  if (found.length === 1 && only !== undefined) return only.hits;
  const best = new Map<string, SearchHit>();
  for (const hit of found.flatMap(({ hits }) => hits)) {
    const known = best.get(hit.id);
    if (known === undefined || hit.score > known.score) best.set(hit.id, hit);
  }
  const byScore = (a: SearchHit, b: SearchHit) => b.score - a.score || (a.id < b.id ? -1 : 1);
  return [...best.values()].toSorted(byScore);
}

/** A result, and the stored id of its store. */
export interface StoreHit extends SearchHit {
  storeId: string;
}

/** The constant k = 60 of reciprocal rank fusion (Cormack, Clarke, Buettcher, SIGIR 2009). */
export const RANK_OFFSET = 60;

/**
 * Merges the hits of several stores, each best first: by score, or by reciprocal rank, which becomes the score. Ties are
 * in the order of the stores, then of their hits.
 */
export function mergeStores(
  stores: readonly { storeId: string; hits: readonly SearchHit[] }[],
  isByScore: boolean,
): StoreHit[] {
  return stores
    .flatMap(({ storeId, hits }) =>
      hits.map((hit, rank) => ({
        ...hit,
        storeId,
        score: isByScore ? hit.score : (RANK_OFFSET + 1) / (RANK_OFFSET + 1 + rank),
      })),
    )
    .toSorted((a, b) => b.score - a.score);
}
