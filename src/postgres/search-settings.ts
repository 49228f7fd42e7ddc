/**
 * Settings of Postgres and pgvector that searches rely on, for a session to start with. An operator's own, in `options`
 * of the URL, go before them.
 *
 * At 100,000 vectors of 1,536 dimensions an index built with `ef_construction` 128 finds 0.99 of the ten nearest with
 * `hnsw.ef_search` 100 in 3.9 ms; one built with pgvector's default, 64, 0.97, and with 200 0.98 in 4.3 ms. An iterative scan goes on where a filter leaves too few.
 *
 * The planner does not know what it costs to read vectors out of line: it would read all of a table of 17,000 long
 * texts, or of 3,000 dimensions, for which it takes the table to be small (344 ms), rather than use the vector index
 * (3 ms). Nothing that is asked often needs a whole table; where there is no other way, it is read all the same. And to
 * compile a statement to machine code takes longer than to run it.
 */
export const SEARCH_SETTINGS: Record<string, string | number> = {
  "hnsw.ef_search": 100,
  "hnsw.iterative_scan": "relaxed_order",
  enable_seqscan: "off",
  random_page_cost: 1.1,
  jit: "off",
};
