import type { DescService } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";

/** A service with its implementation, as both front-ends take it. */
export interface Service {
  desc: DescService;
  /** The same service for binary requests, where it differs: see ingest/binary-batch.ts. */
  binaryDesc?: DescService;
  implementation: Implementation;
  /** Reserves memory for each message of a client's stream before it is read; default: none is needed. */
  admit?: Admit;
  /** Uploads over plain HTTP at the same time, each of which holds lines in memory; default: any number. */
  uploadsMax?: number;
}

/** The methods of an implementation by their name in TypeScript. */
export type Implementation = Record<string, (request: never, context: HandlerContext) => unknown>;

/**
 * Reserves memory for a message of `bytes`, waiting until there is some. Rejects when the signal
 * aborts, and when it takes too long.
 */
export type Admit = (bytes: number, signal: AbortSignal) => Promise<Disposable>;
