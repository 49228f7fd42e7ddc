import { createConnectTransport } from "@connectrpc/connect-web";
import { authorize, Client, DEFAULT_URL, TIMEOUT_MS, type ClientOptions } from "./client.ts";

export { Client, type ClientOptions } from "./client.ts";
export { Store, toFilter, type FilterInput, type Found, type RowInput, type SearchOptions } from "./store.ts";

/** Makes a client over Connect, for browsers and whatever has `fetch`: unary calls, and streams of replies. */
export function connect(options: ClientOptions = {}): Client {
  return new Client(
    createConnectTransport({
      baseUrl: options.url ?? DEFAULT_URL,
      interceptors: [authorize(options)],
      defaultTimeoutMs: options.timeoutMs ?? TIMEOUT_MS,
    }),
  );
}
