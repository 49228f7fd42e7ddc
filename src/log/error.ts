import { messageOf } from "../errors.ts";

/** The logged form of an error. */
export interface LoggedError {
  type: string;
  message: string;
  /** SQLSTATE, `errno` name or gRPC status code; absent when the error has none. */
  code?: string | number;
  stack?: string | undefined;
  cause?: LoggedError | string;
}

/** Maximum number of nested causes that are logged; a chain of causes may be a cycle. */
const CAUSES_MAX = 5;

/**
 * Pino's serializer for errors. An allow-list of fields: errors carry properties of any size, such as the
 * protobuf descriptors in `details` of a ConnectError, which made lines of 3 KB.
 */
export function serializeError(error: unknown, causesMax = CAUSES_MAX): LoggedError | string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as { code?: unknown };
  return {
    type: error.name,
    message: messageOf(error),
    ...(typeof code === "string" || typeof code === "number" ? { code } : {}),
    stack: error.stack,
    ...(error.cause === undefined || causesMax === 0
      ? {}
      : { cause: serializeError(error.cause, causesMax - 1) }),
  };
}
