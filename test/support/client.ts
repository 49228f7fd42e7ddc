import type { TestServer } from "./server.ts";

export type Json = Record<string, unknown>;

/** A caller of the service over one protocol; what it sends and gets is OpenAI's JSON whatever the protocol. */
export interface Client extends AsyncDisposable {
  /**
   * Calls an RPC, such as "VectorStoreService/CreateVectorStore". Null is absent, and clears in an update.
   * Rejects with a `CallError` for every refusal, an abort and a timeout too.
   */
  readonly call: (rpc: string, request?: Json, options?: CallOptions) => Promise<Reply>;
}

/** A reply in OpenAI's dialect. Loosely typed: the tests are what checks its shape. */
// oxlint-disable-next-line typescript/no-explicit-any
export type Reply = any;

export interface CallOptions {
  /** Sent as the bearer key. */
  key?: string;
  headers?: Record<string, string>;
  timeoutMs?: number;
  signal?: AbortSignal;
  /** Gets the reply's `x-request-id`. */
  onRequestId?: (id: string | undefined) => void;
}

/** A way to reach the service. */
export interface Protocol {
  name: string;
  connect(server: Pick<TestServer, "url" | "address">): Client;
}

/** The names of gRPC's status codes in lower case, by number. */
const CODES =
  "ok cancelled unknown invalid_argument deadline_exceeded not_found already_exists permission_denied resource_exhausted failed_precondition aborted out_of_range unimplemented internal unavailable data_loss unauthenticated".split(
    " ",
  );

/** What a refused call tells the caller, the same over every protocol. */
export interface CallError extends Error {
  /** A gRPC status code, such as "invalid_argument". */
  code: string;
  /** The reason of `src/errors.ts`; null where none arrived. */
  reason: string | null;
  param: string | null;
  requestId: string | undefined;
}

export function callError(
  code: string | number,
  message: string,
  details: { reason?: string | null; param?: string | null; requestId?: string | undefined } = {},
): CallError {
  const { reason = null, param = null, requestId } = details;
  const name = typeof code === "number" ? (CODES[code] ?? String(code)) : code;
  return Object.assign(new Error(message), { code: name, reason, param, requestId });
}

/** The headers of a call, with its key. */
export function headersOf({ key, headers = {} }: CallOptions): Record<string, string> {
  return key === undefined ? headers : { ...headers, authorization: `Bearer ${key}` };
}
