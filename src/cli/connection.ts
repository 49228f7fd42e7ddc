import type { DescService } from "@bufbuild/protobuf";
import { createClient, type Client, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";

/** Where the service listens by default. */
export const DEFAULT_URL = "http://127.0.0.1:8000";

/** Timeout of a unary call: longer than the service allows itself. */
const TIMEOUT_MS = 120_000;

/** Interval of HTTP/2 pings on a connection with open streams: a silent network is noticed. */
const PING_INTERVAL_MS = 20_000;

/** Options that every command has. */
export interface GlobalOptions {
  url: string;
  key?: string;
  /** Whether output is JSON, for programs. */
  json?: boolean;
}

/** Makes clients of the services. Nothing is sent before the first call. */
export class Connection {
  readonly #transport: Transport;

  constructor({ url, key }: GlobalOptions) {
    const authorize: Interceptor = (next) => (request) => {
      if (key !== undefined) request.header.set("authorization", `Bearer ${key}`);
      return next(request);
    };
    this.#transport = createGrpcTransport({
      baseUrl: url,
      interceptors: [authorize],
      defaultTimeoutMs: TIMEOUT_MS,
      pingIntervalMs: PING_INTERVAL_MS,
    });
  }

  client<T extends DescService>(service: T): Client<T> {
    return createClient(service, this.#transport);
  }
}
