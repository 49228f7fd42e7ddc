/** The values of `hnsw.ef_search` that are compared, each about 1.4 times the one before; pgvector allows 1 to 1,000. */
export const EF_LADDER: readonly number[] = [
  10, 15, 20, 30, 40, 60, 80, 100, 140, 200, 280, 400, 560, 800, 1_000,
];

/** Bounds of the number of queries that a decision takes. */
const QUERIES_MIN = 20;
const QUERIES_MAX = 100;

/** Queries after which a recall that is clearly too low is raised, if it can be, before there are enough to be sure. */
const QUERIES_URGENT = 10;

/** A tuned value is lowered by this factor at least, so that it does not go to and fro between two steps. */
const LOWERING = 1.8;

/** Recall that is not worth a larger `ef_search` where none reaches the target. */
const PLATEAU = 0.01;

/** The choice of an `ef_search`, and the recall that was measured with it. */
export interface Choice {
  efSearch: number;
  recall: number;
  queries: number;
}

/** Number of queries after which a recall can be told from the target: the nearer the target is to 1, the more. */
export function queriesFor(target: number): number {
  return Math.min(QUERIES_MAX, Math.max(QUERIES_MIN, Math.ceil(1 / (1 - target))));
}

/** The recall of an index by `ef_search`, as the mean of the queries that were compared. */
export class RecallCurve {
  /** The recalls of each query, in the order of the ladder. */
  readonly #queries: (readonly number[])[] = [];

  /** Adds a query's recalls, in the order of the ladder; those left out are 1. The latest queries are kept. */
  add(recalls: readonly number[]): void {
    this.#queries.push(recalls);
    if (this.#queries.length > QUERIES_MAX) this.#queries.shift();
  }

  /**
   * Chooses the least `ef_search` whose recall exceeds the target by a standard error, or meets it; where none does,
   * the least that finds about as much as the largest. A `current` value that meets the target is kept when the choice would cost
   * more, or, if `isTuned`, only little less. Undefined: too few queries were compared.
   */
  choose(target: number, current: number, isTuned: boolean): Choice | undefined {
    const queries = this.#queries.length;
    const now = this.#recallAt(current);
    const enough = this.#least(({ mean, error }) => mean - error >= target);
    const isUrgent = queries >= QUERIES_URGENT && now.mean + 2 * now.error < target && enough !== undefined;
    if (queries < queriesFor(target) && !isUrgent) return undefined;
    const wanted = enough ?? this.#least(({ mean }) => mean >= target) ?? this.#plateau();
    const isKept = now.mean >= target && wanted > current / (isTuned ? LOWERING : 1);
    const efSearch = isKept ? current : wanted;
    return { efSearch, recall: this.#recallAt(efSearch).mean, queries };
  }

  #plateau(): number {
    const best = Math.max(...EF_LADDER.map((efSearch) => this.#recallAt(efSearch).mean));
    return this.#least(({ mean }) => mean >= best - PLATEAU) ?? 0;
  }

  #least(isEnough: (recall: Recall) => boolean): number | undefined {
    return EF_LADDER.find((efSearch) => isEnough(this.#recallAt(efSearch)));
  }

  /** The recall at the largest value of the ladder that is at most `efSearch`. */
  #recallAt(efSearch: number): Recall {
    const step = Math.max(
      0,
      EF_LADDER.findLastIndex((value) => value <= efSearch),
    );
    const recalls = this.#queries.map((query) => query[step] ?? 1);
    const mean = recalls.reduce((sum, recall) => sum + recall, 0) / recalls.length;
    const variance = recalls.reduce((sum, recall) => sum + (recall - mean) ** 2, 0) / recalls.length;
    return { mean, error: Math.sqrt(variance / recalls.length) };
  }
}

/** The mean of some recalls, and its standard error. */
interface Recall {
  mean: number;
  error: number;
}
