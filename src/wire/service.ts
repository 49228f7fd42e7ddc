import type { DescService } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";

/** A service and its implementation, as REST and gRPC register them. */
export interface Service {
  desc: DescService;
  /** The descriptor for binary requests, if it differs from `desc`: see ingest/binary-batch.ts. */
  binaryDesc?: DescService;
  implementation: Implementation;
  /**
   * Reserves memory for each message of a client's stream before the message is read; default: no
   * reservation.
   */
  admit?: AdmitFor;
  /** Maximum number of concurrent REST uploads, each of which holds lines in memory; default: unlimited. */
  uploadsMax?: number;
}

/** The methods of an implementation, by their names in TypeScript. */
export type Implementation = Record<string, (request: never, context: HandlerContext) => unknown>;

/**
 * Reserves memory for a message of `bytes`; waits until the memory is available. Rejects when the signal
 * aborts and when the wait times out. Disposing of the result releases the memory.
 */
export type Admit = (bytes: number, signal: AbortSignal) => Promise<Disposable>;

/** What reserves memory for one caller: see `Principal.caller`. */
export type AdmitFor = (caller: string) => Admit;
