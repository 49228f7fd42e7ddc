import { interruption } from "../support/interruption.ts";
import { RESULTS, type Row } from "./peer.ts";

/** The recall that every contender must reach before its speed is measured. */
export const RECALL = 0.99;

/** Sizes of the candidate list to try, in order. */
const EFS = [16, 24, 32, 48, 64, 80, 100, 128, 160, 200, 256, 320, 400, 512, 640, 800];

/** Searches in flight while recall is measured. */
const CONCURRENCY = 4;

/** The ids of the rows nearest to the vector by cosine, found by comparing all; vectors have length 1. */
export function findNearest(rows: readonly Row[], vector: Float32Array): string[] {
  const best: { id: string; score: number }[] = [];
  for (const { id, vector: row } of rows) {
    let score = 0;
    for (let axis = 0; axis < vector.length; axis++)
      score += (row[axis] as number) * (vector[axis] as number);
    if (best.length === RESULTS && score <= (best[RESULTS - 1] as { score: number }).score) continue;
    const place = best.findIndex((other) => other.score < score);
    best.splice(place === -1 ? best.length : place, 0, { id, score });
    best.length = Math.min(best.length, RESULTS);
  }
  return best.map(({ id }) => id);
}

/** The share of the truly nearest rows that a search finds. */
export async function measureRecall(
  search: (index: number) => Promise<string[]>,
  truth: readonly (readonly string[])[],
): Promise<number> {
  let found = 0;
  let next = 0;
  const work = async () => {
    while (next < truth.length) {
      interruption.throwIfAborted();
      const index = next++;
      const ids = new Set(await search(index));
      found += (truth[index] as string[]).filter((id) => ids.has(id)).length;
    }
  };
  await Promise.all(Array.from({ length: CONCURRENCY }, work));
  return found / truth.flat().length;
}

/** A contender's choice for a kind of search. */
export interface Choice {
  ef: number;
  recall: number;
}

/** Tries ever larger candidate lists, from `from` on, until the recall is reached. The last tried stays set. */
export async function chooseEf(
  { setEf, search }: { setEf: (ef: number) => Promise<void>; search: (index: number) => Promise<string[]> },
  truth: readonly (readonly string[])[],
  from = 0,
): Promise<Choice> {
  let choice: Choice = { ef: from, recall: 0 };
  for (const ef of EFS.filter((size) => size >= from)) {
    await setEf(ef);
    choice = { ef, recall: await measureRecall(search, truth) };
    if (choice.recall >= RECALL) break;
  }
  return choice;
}
