/**
 * Okapi BM25 (Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009) in plain SQL: a word
 * weighs more the fewer rows have it (idf), each further occurrence of it in a text counts less than the one before (k1),
 * and a text that is longer than the mean counts less (b).
 */
const K1 = 1.2;
const B = 0.75;

/** SQL expression of a word's idf, from the number of rows that have it, which may be an estimate, and the number of all rows. */
export function weigh(rows: string, allRows: string): string {
  return `ln(1 + (greatest(${allRows}, ${rows}) - ${rows} + 0.5) / (${rows} + 0.5))`;
}

/**
 * SQL expression of k1 for the text of `content_tsvector`, larger for a longer text. The length is that in different words,
 * which a tsvector has at hand: to count repeated ones too takes longer than the rest, and finds no more (decision 0029).
 */
export function relativeLength(meanLength: string): string {
  return `${K1} * (${1 - B} + ${B} * length(content_tsvector) / greatest(${meanLength}, 1))`;
}

/** The limit of 1 + 1/4 + 1/9 + …, as tsrank.c has it. */
const RANK_LIMIT = "1.64493406685::float8";

/**
 * SQL expression: how often the word `query` occurs in `content_tsvector`; 0: not at all. For a single word that occurs n
 * times, `ts_rank` with equal weights is (1 + 1/4 + … + 1/n²) / RANK_LIMIT, and what that lacks of the limit is close to
 * 1 / (n + 0.5): rounded, n comes back exactly up to 255, more than which a tsvector does not count.
 */
export const FREQUENCY = `round(1 / (${RANK_LIMIT} - ${RANK_LIMIT} * ts_rank('{1,1,1,1}', content_tsvector, query)) - 0.5)`;

/**
 * SQL aggregate over words, with `query` and `weight`: the score of a text, with the `k` of its length. The same as the sum of
 * weight * frequency * (k1 + 1) / (frequency + k), with the frequency once.
 */
export const SCORE = `sum(weight * ${K1 + 1} * (1 - k / (${FREQUENCY} + k)))`;
