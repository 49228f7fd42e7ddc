/** Why a file cannot be read: OpenAI's codes for the `last_error` of a vector store's file. */
export type DocumentErrorCode = "unsupported_file" | "invalid_file" | "server_error";

/**
 * A file cannot be read; the message is shown to the user. `unsupported_file` and `invalid_file` are final:
 * the cause is in the file. `server_error`: the reader failed, and a retry may succeed.
 */
export class DocumentError extends Error {
  readonly code: DocumentErrorCode;

  constructor(code: DocumentErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "DocumentError";
    this.code = code;
  }
}

/** The file's format has no text, such as an image. Final. */
export function unsupportedFile(message: string): DocumentError {
  return new DocumentError("unsupported_file", message);
}

/** The file's format is supported, but the file is damaged, encrypted, empty or too large. Final. */
export function invalidFile(message: string, cause?: unknown): DocumentError {
  return new DocumentError("invalid_file", message, { cause });
}

/** The reader failed; a retry may succeed. */
export function readerFailed(message: string, cause?: unknown): DocumentError {
  return new DocumentError("server_error", message, { cause });
}
