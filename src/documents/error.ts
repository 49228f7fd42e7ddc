/** Why a file gives no text, in OpenAI's words for the `last_error` of a vector store's file. */
export type DocumentErrorCode = "unsupported_file" | "invalid_file" | "server_error";

/**
 * A file cannot be read. The message is fit for the user. `unsupported_file` and `invalid_file` are final: the
 * file is at fault. `server_error` says that the reader was, and that another attempt may succeed.
 */
export class DocumentError extends Error {
  readonly code: DocumentErrorCode;

  constructor(code: DocumentErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "DocumentError";
    this.code = code;
  }
}

/** The file's kind is one that gives no text, such as an image. */
export function unsupportedFile(message: string): DocumentError {
  return new DocumentError("unsupported_file", message);
}

/** The file is of a kind that gives text, but broken, locked, empty or too large. */
export function invalidFile(message: string, cause?: unknown): DocumentError {
  return new DocumentError("invalid_file", message, { cause });
}

/** The reader failed. */
export function readerFailed(message: string, cause?: unknown): DocumentError {
  return new DocumentError("server_error", message, { cause });
}
