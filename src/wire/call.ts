import type { DescMethod, DescService } from "@bufbuild/protobuf";
import {
  Code,
  createContextKey,
  type ConnectError,
  type HandlerContext,
  type ServiceImpl,
} from "@connectrpc/connect";
import type { FastifyBaseLogger } from "fastify";
import type { Admit } from "./admission.ts";
import { toConnectError } from "./error.ts";

/** The request's logger, which carries the request id. */
export const callLogger = createContextKey<FastifyBaseLogger | undefined>(undefined);

/** A service with its implementation, as both front-ends take it. */
export interface Service {
  desc: DescService;
  /** The same service for binary requests, where it differs: see service/batch-bytes.ts. */
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
 * Wraps every method of an implementation with what all protocols share: errors become
 * ConnectErrors (`translate` first maps those of the layers below), and one line is logged per
 * call with its outcome and duration.
 */
export function defineService<S extends DescService>(
  desc: S,
  implementation: ServiceImpl<S>,
  translate: (error: unknown) => unknown,
): Service {
  const wrapped: Implementation = {};
  for (const method of desc.methods) {
    const run = (implementation as Implementation)[method.localName];
    if (run === undefined) throw new Error(`${method.toString()} is not implemented`);
    wrapped[method.localName] = wrapMethod(method, run.bind(implementation), translate);
  }
  return { desc, implementation: wrapped };
}

function wrapMethod(
  method: DescMethod,
  run: Implementation[string],
  translate: (error: unknown) => unknown,
): Implementation[string] {
  const failed = (error: unknown, context: HandlerContext, startedAt: number) => {
    const connectError = toConnectError(translate(error));
    logOutcome(method, context, startedAt, connectError);
    return connectError;
  };
  if (method.methodKind === "unary" || method.methodKind === "client_streaming") {
    return async (request, context) => {
      const startedAt = performance.now();
      try {
        const reply: unknown = await run(request, context);
        logOutcome(method, context, startedAt);
        return reply;
      } catch (error) {
        throw failed(error, context, startedAt);
      }
    };
  }
  return async function* (request, context) {
    const startedAt = performance.now();
    try {
      yield* run(request, context) as AsyncIterable<unknown>;
      logOutcome(method, context, startedAt);
    } catch (error) {
      throw failed(error, context, startedAt);
    }
  };
}

function logOutcome(
  method: DescMethod,
  context: HandlerContext,
  startedAt: number,
  error?: ConnectError,
): void {
  const log = context.values.get(callLogger);
  if (log === undefined) return;
  const line = {
    rpc: `${method.parent.typeName}/${method.name}`,
    protocol: context.protocolName,
    durationMs: Math.round((performance.now() - startedAt) * 10) / 10,
  };
  if (error === undefined) return log.info(line, "ok");
  const outcome = { ...line, code: Code[error.code], error: error.rawMessage };
  switch (error.code) {
    case Code.Internal:
    case Code.Unknown:
    case Code.DataLoss:
      return log.error({ ...outcome, err: error.cause ?? error }, "failed");
    case Code.Unavailable:
    case Code.DeadlineExceeded:
      return log.warn(
        { ...outcome, cause: error.cause instanceof Error ? error.cause.message : undefined },
        "failed",
      );
    default:
      return log.info(outcome, "refused");
  }
}
