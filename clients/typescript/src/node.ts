import { createGrpcTransport } from "@connectrpc/connect-node";
import { authorize, Client, DEFAULT_URL, TIMEOUT_MS, type ClientOptions } from "./client.ts";

export { Client, type ClientOptions } from "./client.ts";
export { load, type LoadOptions, type LoadProgress, type LoadResult, type RefusedRow } from "./load.ts";
export { Store, toFilter, type FilterInput, type Found, type RowInput, type SearchOptions } from "./store.ts";

/** Interval of HTTP/2 pings on a connection with open streams: a silent network is noticed. */
const PING_INTERVAL_MS = 20_000;

/** PEM files of TLS. */
export interface TlsOptions {
  /** Certificates of authorities; default: Node's. */
  ca?: string | Uint8Array;
  /** The client's certificate and private key. */
  cert?: string | Uint8Array;
  key?: string | Uint8Array;
}

/** Makes a client over gRPC, for Node and Bun. Defaults: PGQUIVER_URL and PGQUIVER_API_KEY. */
export function connect({ tls, ...options }: ClientOptions & { tls?: TlsOptions } = {}): Client {
  const apiKey = options.apiKey ?? process.env["PGQUIVER_API_KEY"];
  return new Client(
    createGrpcTransport({
      baseUrl: options.url ?? process.env["PGQUIVER_URL"] ?? DEFAULT_URL,
      interceptors: [authorize({ ...options, ...(apiKey !== undefined && { apiKey }) })],
      defaultTimeoutMs: options.timeoutMs ?? TIMEOUT_MS,
      pingIntervalMs: PING_INTERVAL_MS,
      ...(tls !== undefined && { nodeOptions: tls as Record<string, string> }),
    }),
  );
}
