/**
 * Okapi BM25 (Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond", 2009) in plain SQL: a word
 * weighs more the fewer rows have it (idf), each further occurrence of it in a text counts less than the one before (k1),
 * and a text that is longer than the mean counts less (b).
 */
const K1 = 1.2;
const B = 0.75;

/** The limit of 1 + 1/4 + 1/9 + …, as tsrank.c has it. */
const RANK_LIMIT = "1.64493406685::float8";

/**
 * SQL expression: how often the word `query` occurs in `content_tsvector`; 0: not at all. For a single word that occurs n
 * times, `ts_rank` with equal weights is (1 + 1/4 + … + 1/n²) / RANK_LIMIT, and what that lacks of the limit is close to
 * 1 / (n + 0.5): rounded, n comes back exactly up to 255, more than which a tsvector does not count.
 */
export const FREQUENCY = `round(1 / (${RANK_LIMIT} - ${RANK_LIMIT} * ts_rank('{1,1,1,1}', content_tsvector, query)) - 0.5)::float4`;

/**
 * SQL expression: the length of a text, in different words, which a tsvector has at hand. To count repeated words too takes
 * twice as long as all frequencies together, and finds no more: see the decision 0029.
 */
export const LENGTH = "length(content_tsvector)";

/**
 * CTE `weights`, one row: the idf of each word, in the order of their numbers, and the mean length. It reads `words` (`number`,
 * `rows`: the estimate of the rows that have the word) and `found`, the rows to rank (`length`, `frequencies` in the order of the
 * words). `storeRows` is an SQL expression of the number of rows.
 *
 * A word that is not among the planner's thousand most common ones has so few rows that all of them are ranked: then
 * they are counted there, and no count of its own is needed. The mean length is that of the rows to rank, which is a sample
 * of at most some thousand.
 */
export function selectWeights(storeRows: string): string {
  return `weights as materialized (
      select array_agg(ln(1 + (greatest(all_rows, matched) - matched + 0.5) / (matched + 0.5)) order by number) as weights,
        (select avg(length) from found) as mean_length
      from (select number, round(greatest(rows, counted)::float8) as matched
        from words join (
          select number, count(*) filter (where frequency > 0) as counted
          from found, unnest(frequencies) with ordinality as occurring (frequency, number) group by number) counts using (number)) weighed,
        (select ${storeRows}::float8 as all_rows) stored)`;
}

/** SELECT of the `id` and the `score` of the rows `found`. */
export function selectScores(id: string): string {
  return `select ${id}, (
        select sum(weight * frequency * ${K1 + 1} / (frequency + ${K1} * (${1 - B} + ${B} * length / mean_length)))
        from unnest(frequencies, weights) as word (frequency, weight)) as score
      from found, weights`;
}
