/**
 * All fixed limits on requests. They are part of the API contract and repeated in the proto comments; limits
 * that an operator can change are in `config.ts`.
 */
export const limits = {
  /**
   * Values in one request message: items of lists, keys of objects, and fields that are unknown. Bounds what a
   * message takes when it is decoded: some hundred bytes for each value.
   */
  request_values_max: 500_000,
  /** Bytes of a request message of an RPC without `max_request_bytes`. */
  request_bytes_default: 1_048_576,
  /**
   * UTF-8 bytes of an error's message, and of the name of the field in it; the rest is cut off. Over gRPC both are
   * trailers, percent-encoded and in base64: together below the 8 KiB of headers that clients take.
   */
  error_message_bytes_max: 1_024,
  error_param_bytes_max: 256,
  /** Stores or embeddings in one page of a list: OpenAI's maximum. */
  page_limit_max: 100,
  /** Default of the same: OpenAI's. */
  page_limit_default: 20,
  /**
   * Bytes of the items of one page: below the 4 MiB that gRPC clients take by default, so that a page ends
   * early rather than fails. One item is smaller: 1 MiB of text, 64 KiB of metadata, 64 KiB of vector.
   */
  page_bytes_max: 3_145_728,
  /** Embeddings in one page of a query by a filter. */
  query_limit_max: 1_000,
  /** Attributes whose values are counted at once, values of each, and characters of a value that is counted. */
  facet_attributes_max: 10,
  facet_values_max: 100,
  facet_values_default: 10,
  facet_value_chars_max: 512,
  /** Results of one search: OpenAI's maximum. */
  search_results_max: 50,
  /** Default of the same: OpenAI's. */
  search_results_default: 10,
  /** Results of one search with `limit`, in one page. */
  search_limit_max: 1_000,
  /** Bytes of text and metadata that a search reads which has no pages: as many as 50 results may have. */
  search_bytes_max: 52_428_800,
  /** Candidates of a search whose results a model ranks, or diversity chooses: this many times the results, within bounds. */
  search_candidates_factor: 4,
  search_candidates_min: 20,
  search_candidates_max: 200,
  /** Best chunks of a hybrid search, and of an index, that are grouped by file: for each result, and at least. */
  grouped_chunks_factor: 4,
  grouped_chunks_min: 100,
  /** Characters of a candidate that a reranking model gets: such models read 512 tokens, or some thousand. */
  rerank_text_chars_max: 8_000,
  /** Chunks before and after a result's chunk that are read with it, and chunks that are read with all results. */
  neighbors_max: 10,
  passage_chunks_max: 1_050,
  /** Texts in one search. */
  search_queries_max: 16,
  /** Stores in one search of several. */
  search_stores_max: 16,
  /**
   * Searches in one batch, and how many searches of one call run concurrently, as far as the connection pool
   * allows.
   */
  batch_searches_max: 100,
  search_concurrency_max: 4,
  /**
   * Maximum number of searches that wait in this process, half as many per caller, and the timeout of the
   * wait in ms.
   */
  searches_waiting_max: 1_024,
  search_wait_ms_max: 10_000,
  /**
   * How long a call waits for a connection while its project or key holds its share of the pool (`max_connection_percent`),
   * in ms; and how many waits there may be for each connection of the share, half as many per caller.
   */
  connection_share_wait_ms_max: 5_000,
  connection_share_waiting_max: 50,
  /**
   * Characters of text and metadata in the results of one call; bounds the memory of batch searches. One
   * search never reaches it: it has 50 results of at most 1 MiB of text and 64 KiB of metadata each, or `search_bytes_max`.
   */
  search_chars_max: 134_217_728,
  /** `hnsw.ef_search`: pgvector's maximum (src/hnsw.h). */
  ef_search_max: 1_000,
  /** Weight of a list in a hybrid search. */
  search_weight_max: 1_000_000,
  /**
   * Entries of the store cache, a few hundred bytes each: a search of a cached store skips reading the
   * store's row.
   */
  known_stores_max: 10_000,
  /**
   * Values of metadata that are kept to estimate how many rows a filter leaves: 1,000 rows of each of 500 keys,
   * 8 to 100 bytes a value.
   */
  sampled_values_max: 500_000,
  /** Bytes of the queries that wait to be compared with an exact search: vectors, and filters. */
  sampled_queries_bytes_max: 8_388_608,
  /** Characters (UTF-16 units) of one search text: four times the 8,192 tokens OpenAI's models read. */
  query_chars_max: 32_768,
  /** Tokens in one embeddings request: OpenAI's limit. */
  embed_tokens_max: 300_000,
  /**
   * One embeddings request: texts (OpenAI's limit), UTF-8 bytes of all texts together, numbers in the reply.
   */
  embed_texts_max: 2_048,
  embed_bytes_max: 8_388_608,
  embed_numbers_max: 8_388_608,
  /** Files in one page of a list: OpenAI's maximum, and default. */
  files_page_max: 10_000,
  /** Characters of a file's name. */
  filename_chars_max: 1_024,
  /** Seconds after which a file may expire: OpenAI's range. */
  file_expiry_seconds_min: 3_600,
  file_expiry_seconds_max: 2_592_000,
  /**
   * An upload in parts: bytes of a part, parts, and seconds until it expires (OpenAI's limits, but for the parts), characters
   * of its type; pending uploads of a project.
   */
  upload_part_bytes_max: 67_108_864,
  upload_parts_max: 2_000,
  upload_seconds_max: 3_600,
  mime_type_chars_max: 256,
  uploads_pending_max: 100,
  /** Watches of this process, and of one caller in it; seconds after which a watch ends, and is to be opened again. */
  watches_max: 1_000,
  watches_per_caller_max: 100,
  watch_seconds_max: 3_600,
  /** Dimensions of a vector: pgvector's own maximum for the type `vector` (src/vector.h). */
  dimensions_max: 16_000,
  /** Embeddings in one batch request. */
  batch_rows_max: 10_000,
  /** Aliases of a project: those of projects in use are in memory, and are read again twice a second. */
  aliases_max: 1_000,
  /** Ids in one request to delete embeddings. */
  batch_deletions_max: 1_000,
  /** Rejected rows that an ingest's summary lists: maximum and default. */
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
  /** Pairs in a file's attributes, characters of a key and of a text: OpenAI's limits. */
  attribute_pairs_max: 16,
  attribute_key_chars_max: 64,
  attribute_value_chars_max: 512,
  /** Readers in a file's attributes. */
  file_readers_max: 256,
  /** Files attached when a store is created, and in one batch: OpenAI's limits. */
  store_files_max: 500,
  batch_files_max: 2_000,
  /** Tokens of a chunk: OpenAI's range. Characters of a chunk in LiteLLM's form. */
  chunk_tokens_min: 100,
  chunk_tokens_max: 4_096,
  chunk_chars_max: 100_000,
  /** Bytes of a file that must be read into memory whole: PDF and Office; HTML. */
  document_bytes_max: 67_108_864,
  document_html_bytes_max: 16_777_216,
  /**
   * An Office file is a ZIP archive: its entries, and bytes that the entries may expand to, against ZIP
   * bombs.
   */
  document_entries_max: 10_000,
  document_expanded_bytes_max: 536_870_912,
  /** UTF-8 bytes of text, and chunks, extracted from one file. */
  file_text_bytes_max: 536_870_912,
  file_chunks_max: 1_000_000,
  /** UTF-8 bytes of a file's chunks in one reply. */
  file_content_bytes_max: 33_554_432,
  /** Characters of an `Idempotency-Key`. */
  idempotency_key_chars_max: 255,
  /** HNSW build parameters: pgvector's ranges for m and ef_construction (src/hnsw.h). */
  index_m_min: 2,
  index_m_max: 100,
  index_m_default: 16,
  index_ef_construction_min: 4,
  index_ef_construction_max: 1_000,
  index_ef_construction_default: 128,
  /** Recall asked of a store's index, for ten results. */
  target_recall_default: 0.98,
  target_recall_min: 0.5,
  target_recall_max: 0.999,
  /** Attributes of a store with an index each: every one makes writes slower. */
  indexed_attributes_max: 16,
  /** Bytes of the name of a text search configuration: Postgres keeps 63 bytes of an identifier. */
  language_chars_max: 63,
  /** Characters of the name of a project or a key. */
  project_name_chars_max: 256,
  /** Seconds after which a key may expire: a minute, ten years. */
  key_expiry_seconds_min: 60,
  key_expiry_seconds_max: 315_360_000,
  /** Stores that a key may be restricted to. */
  key_stores_max: 1_000,
  /** Characters of the subject of a certificate. */
  certificate_subject_chars_max: 256,
  /** Scopes, stores and readers that a token may name. */
  token_words_max: 1_000,
  /** Days of usage in one page: OpenAI's range. */
  usage_days_max: 31,
  usage_days_default: 7,
  /** Days of inactivity after which a store may expire: OpenAI's maximum. */
  expiry_days_max: 365,
  /** A filter: nesting levels, conditions, items of a list, characters of a key. */
  filter_depth_max: 16,
  filter_conditions_max: 256,
  filter_list_items_max: 1_000,
  filter_key_chars_max: 256,
  /** Characters of the words that a filter asks for. */
  filter_text_chars_max: 1_024,
} as const;
