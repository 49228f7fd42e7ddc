/**
 * Every number that bounds a request, in one place. Those an operator may need to change are in
 * `config.ts`; these are part of the contract and stand in the proto comments too.
 */
export const limits = {
  /** Stores or embeddings in one page of a list. OpenAI's range. */
  page_limit_max: 100,
  /** The same, when the request gives none. */
  page_limit_default: 20,
  /** Results of one search: OpenAI's range. */
  search_results_max: 50,
  /** The same, when the request gives none. */
  search_results_default: 10,
  /** Texts in one search. */
  search_queries_max: 16,
  /** Characters (UTF-16 units) of one search text: four times the 8,192 tokens OpenAI's models read. */
  query_chars_max: 32_768,
  /** Dimensions of a vector: pgvector's own maximum for the type `vector` (src/vector.h). */
  dimensions_max: 16_000,
  /** Embeddings in one batch request. */
  batch_rows_max: 10_000,
  /** Refused rows an ingest lists, at most and when the request gives no number. */
  row_errors_max: 1_000,
  row_errors_default: 100,
  /** UTF-8 bytes of one embedding's text. */
  content_bytes_max: 1_048_576,
  /** UTF-8 bytes of one embedding's metadata as JSON. */
  metadata_bytes_max: 65_536,
  /** Levels of nested JSON in one embedding's metadata. */
  metadata_depth_max: 32,
  /** Pairs in a store's metadata, characters of a key and of a value: OpenAI's limits. */
  store_metadata_pairs_max: 16,
  store_metadata_key_chars_max: 64,
  store_metadata_value_chars_max: 512,
  /** Characters of a store's name and description. */
  store_name_chars_max: 256,
  store_description_chars_max: 4_096,
  /** Characters of an id chosen by the caller. */
  id_chars_max: 128,
  /** Days of disuse after which a store may expire: OpenAI's range. */
  expiry_days_max: 365,
  /** Nested levels, conditions, list items and key characters of a filter. */
  filter_depth_max: 16,
  filter_conditions_max: 256,
  filter_list_items_max: 1_000,
  filter_key_chars_max: 256,
} as const;
