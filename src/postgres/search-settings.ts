/** `hnsw.ef_search` of searches, unless the request or the store has its own. */
export const EF_SEARCH_DEFAULT = 100;

/**
 * Session settings of Postgres and pgvector that searches rely on. Settings in `options` of the URL override
 * them.
 *
 * `hnsw.ef_search`: at 100,000 vectors of 1,536 dimensions an index built with `ef_construction` 128 has
 * recall@10 0.99 at ef_search 100, in 3.9 ms; one built with pgvector's default of 64 has 0.97, and 0.98 at
 * ef_search 200, in 4.3 ms. `hnsw.iterative_scan`: continues the index scan when a filter leaves fewer than k
 * rows.
 *
 * `enable_seqscan`, `random_page_cost`: the planner ignores the cost of reading TOASTed (out-of-line)
 * vectors. For a table of 17,000 long texts, or of vectors of 3,000 dimensions, whose main part is small, it
 * would choose a sequential scan (344 ms) over the vector index (3 ms). `enable_seqscan = off` only adds a
 * cost: a statement without another plan still scans. `jit`: compiling a search takes longer than running it.
 */
export const SEARCH_SETTINGS: Record<string, string | number> = {
  "hnsw.ef_search": EF_SEARCH_DEFAULT,
  "hnsw.iterative_scan": "relaxed_order",
  enable_seqscan: "off",
  random_page_cost: 1.1,
  jit: "off",
};
