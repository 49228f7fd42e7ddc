/**
 * Every reason an error can carry, with its meaning. A test holds the table in docs/errors.md to this one.
 */
export const REASONS = {
  MISSING_REQUIRED_PARAMETER: "A field that is required is absent or empty.",
  UNKNOWN_PARAMETER: "The request has a field that does not exist.",
  INVALID_TYPE: "A field has the wrong JSON type.",
  INVALID_VALUE: "A field has a value that is not allowed.",
  INTEGER_BELOW_MIN_VALUE: "A number is too small.",
  INTEGER_ABOVE_MAX_VALUE: "A number is too large.",
  STRING_ABOVE_MAX_LENGTH: "A text is too long.",
  ARRAY_ABOVE_MAX_LENGTH: "A list has too many items.",
  OBJECT_ABOVE_MAX_PROPERTIES: "An object has too many keys.",
  INVALID_JSON: "The body is not JSON.",
  INVALID_REQUEST: "The request cannot be read: wrong content type, encoding or framing.",
  DIMENSION_MISMATCH: "A vector's length differs from its store's.",
  EMBEDDING_MODEL_MISMATCH: "The store's vectors were made by a different model than the configured one.",
  MODEL_IN_USE: "The store has vectors of the service's present model already.",
  REEMBEDDING_IN_PROGRESS: "The store is being embedded with another model.",
  VECTOR_STORE_EXPIRED: "The store has expired after a period without use.",
  VECTOR_STORE_ALIASED: "The store cannot be deleted while an alias names it.",
  EMBEDDING_OF_FILE: "The embedding is a chunk of a file, and is changed with the file only.",
  FILE_NOT_COMPLETED: "The file to be replaced is in progress, failed or cancelled.",
  UPLOAD_NOT_PENDING: "The upload is completed, cancelled or expired, and takes no parts.",
  INDEX_MISSING: "The store has no vector index.",
  TABLE_EXISTS: "The store has its own table, made with another setting.",
  INGEST_CONFLICT:
    "The ingest was opened with other settings, advanced by another stream, finished or aborted.",
  INGEST_DRAINING: "The service is shutting down; resume the ingest.",
  WATCH_DRAINING: "The service is shutting down; watch again.",
  INVALID_API_KEY: "The bearer key or token is missing, wrong or expired.",
  MISSING_SCOPE:
    "The key lacks the scope, or is not of the project, that the call needs; or a token would do more than read in a store that restricts its readers.",
  MISMATCHED_PROJECT: "The header OpenAI-Project names another project than the key's.",
  FOREIGN_ORIGIN: "A service without keys refuses foreign hosts, and web pages of other origins.",
  NOT_FOUND: "There is no such resource or route.",
  MODEL_NOT_FOUND: "The service is configured for another model.",
  ALREADY_EXISTS: "The id is taken.",
  IDEMPOTENCY_CONFLICT:
    "The Idempotency-Key was used for a different request, or the rows stored by its first request have changed.",
  REQUEST_TOO_LARGE: "The request is larger than the service accepts.",
  RATE_LIMIT_EXCEEDED: "Too many calls or bytes at the same time; retry after the given delay.",
  INSUFFICIENT_QUOTA: "The project would hold or use more than its quota allows.",
  EMBEDDING_PROVIDER_REFUSED: "The embedding provider refused the texts.",
  EMBEDDING_PROVIDER_UNAVAILABLE: "The embedding provider cannot be reached, or its response is invalid.",
  RANGE_NOT_SATISFIABLE: "The requested byte range is not within the file.",
  IDENTITY_PROVIDER_UNAVAILABLE: "The keys of the identity provider, which signs tokens, cannot be read.",
  FILE_STORAGE_UNAVAILABLE: "The bucket that holds the files cannot be reached or denies access.",
  DATABASE_UNAVAILABLE: "The database cannot be reached, or takes no writes at the moment.",
  SCHEMA_MOVED:
    "This process is older than the database's schema, and takes no writes until it is restarted with the newer version.",
  SCHEMA_MISSING: "The database lacks the tables or the extension, and the role may not create them.",
  DEADLINE_EXCEEDED: "The call took longer than allowed.",
  CANCELLED: "The client cancelled the call or disconnected.",
  UNIMPLEMENTED: "This version does not support the operation or the field.",
  INTERNAL: "A fault of the service; its log has the details under the request id.",
} as const;

/** The machine-readable cause of an error. */

/** A reason. */
export type Reason = keyof typeof REASONS;
