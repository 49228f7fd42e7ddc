import { limits } from "../../limits.ts";
import type { FileGroups, SearchHit } from "../query.ts";

/** Chunks among which the best of some files are looked for, where not all chunks of a store can be. */
export function chunksOf(filesMax: number, { size }: FileGroups): number {
  const { grouped_chunks_factor, grouped_chunks_min, search_limit_max } = limits;
  return Math.min(search_limit_max, Math.max(grouped_chunks_min, grouped_chunks_factor * filesMax * size));
}

/** Keeps the best `size` hits of each of the best `filesMax` files, in their order. */
export function groupByFile<Hit extends SearchHit>(
  hits: readonly Hit[],
  filesMax: number,
  { size }: FileGroups,
): Hit[] {
  const counts = new Map<string, number>();
  return hits.filter((hit) => {
    const file = fileOf(hit);
    const count = counts.get(file) ?? 0;
    if (count === size || (count === 0 && counts.size === filesMax)) return false;
    counts.set(file, count + 1);
    return true;
  });
}

/** The hits of each file, best first, in the order of the best ones. */
export function toFiles<Hit extends SearchHit>(hits: readonly Hit[]): [Hit, ...Hit[]][] {
  const files = new Map<string, [Hit, ...Hit[]]>();
  for (const hit of hits) {
    const known = files.get(fileOf(hit));
    if (known === undefined) files.set(fileOf(hit), [hit]);
    else known.push(hit);
  }
  return [...files.values()];
}

/** Names the file of a hit, which is the same file in all stores; an embedding without a file is one of its own. */
function fileOf({ file_id, id, storeId = "" }: SearchHit & { storeId?: string }): string {
  return file_id === null ? `embedding ${storeId} ${id}` : `file ${file_id}`;
}
