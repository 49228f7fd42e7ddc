import type { TestServer } from "../servers/server.ts";

export type Json = Record<string, unknown>;

/** A client of the service over one protocol. Requests and replies are OpenAI's JSON for every protocol. */
export interface Client extends AsyncDisposable {
  /**
   * Calls an RPC, such as "VectorStoreService/CreateVectorStore". Null means absent; in an update null clears
   * the field. Rejects with a `CallError` for every error reply, and when the call is aborted or times out.
   */
  readonly call: (rpc: string, request?: Json, options?: CallOptions) => Promise<Reply>;
}

/** A reply in OpenAI's JSON. Not typed, because the tests check its shape. */
// oxlint-disable-next-line typescript/no-explicit-any
export type Reply = any;

export interface CallOptions {
  /** Sent as the bearer key. */
  key?: string;
  headers?: Record<string, string>;
  timeoutMs?: number;
  signal?: AbortSignal;
  /** Called with the reply's `x-request-id`. */
  onRequestId?: (id: string | undefined) => void;
}

/** A protocol, with the client library that speaks it. */
export interface Protocol {
  name: string;
  connect(server: Pick<TestServer, "url" | "address">): Client;
}

/** The names of gRPC's status codes in lower case, by number. */
const CODES =
  "ok cancelled unknown invalid_argument deadline_exceeded not_found already_exists permission_denied resource_exhausted failed_precondition aborted out_of_range unimplemented internal unavailable data_loss unauthenticated".split(
    " ",
  );

/** The error of a call, in a form common to all protocols. */
export interface CallError extends Error {
  /** A gRPC status code, such as "invalid_argument". */
  code: string;
  /** The reason from `src/errors.ts`; null when the reply has none. */
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

/** The headers of a call, with the key as bearer token. */
export function headersOf({ key, headers = {} }: CallOptions): Record<string, string> {
  return key === undefined ? headers : { ...headers, authorization: `Bearer ${key}` };
}
