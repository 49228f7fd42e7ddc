import type { DescMethod, DescService } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  createContextKey,
  createContextValues,
  type ContextValues,
  type HandlerContext,
  type ServiceImpl,
} from "@connectrpc/connect";
import type { FastifyBaseLogger } from "fastify";
import { idempotencyHeader } from "../api/idempotency-key.ts";
import { estimateJsonLength } from "../api/json-length.ts";
import { principal, type Principal } from "../api/principal.ts";
import { scopeOf } from "../api/scope.ts";
import { cancelled } from "../errors.ts";
import { origin, withAudit, type AuditTrail, type Origin } from "./audit.ts";
import { toConnectError } from "./error.ts";
import type { ObserveCall } from "./metrics.ts";
import { withSpan } from "./spans.ts";
import type { Implementation, Service } from "./service.ts";
import { findStoreIds, type Aliases } from "./store-ids.ts";

/** The request's logger, which adds the request id to each line. */
export const callLogger = createContextKey<FastifyBaseLogger | undefined>(undefined);

/** Counts the bytes of a unary call's reply until the client has read it. Throws RATE_LIMIT_EXCEEDED. */
type HoldReply = (bytes: number) => void;

const replyHolder = createContextKey<HoldReply>(() => {});

/** What a protocol knows of a call. */
export interface ReceivedCall {
  log: FastifyBaseLogger;
  origin: Origin;
  principal: Principal;
  holdReply: HoldReply;
}

/** The context values of a call: the logger, the principal, and the headers that implementations read. */
export function callValues({
  log,
  origin: from,
  principal: identified,
  holdReply,
}: ReceivedCall): ContextValues {
  const values = createContextValues()
    .set(callLogger, log)
    .set(principal, identified)
    .set(origin, from)
    .set(replyHolder, holdReply);
  const key = from.headers["idempotency-key"];
  return key === undefined ? values : values.set(idempotencyHeader, String(key));
}

/**
 * Wraps every method of an implementation with what all protocols need: converts errors to ConnectErrors,
 * after `translate` has mapped those of lower layers; converts the ids of stores; reports each call to `observe`; logs one line per
 * call with its outcome and duration; and records in `trail` what is to be audited; and traces it. Throws when a method is not
 * implemented, or does not declare what it must.
 */
export function defineService<S extends DescService>(
  desc: S,
  implementation: ServiceImpl<S>,
  translate: (error: unknown) => unknown,
  observe: ObserveCall,
  trail: AuditTrail,
  aliases: Aliases,
): Service {
  const wrapped: Implementation = {};
  for (const method of desc.methods) {
    scopeOf(method);
    const run = (implementation as Implementation)[method.localName];
    if (run === undefined) throw new Error(`${method.toString()} is not implemented`);
    const call = wrapMethod(method, run.bind(implementation), translate, observe, aliases);
    wrapped[method.localName] = withSpan(method, withAudit(method, call, translate, trail));
  }
  return { desc, implementation: wrapped };
}

function wrapMethod(
  method: DescMethod,
  run: Implementation[string],
  translate: (error: unknown) => unknown,
  observe: ObserveCall,
  aliases: Aliases,
): Implementation[string] {
  const begin = (context: HandlerContext) => {
    const startedAt = performance.now();
    const observeEnd = observe(method, context.protocolName);
    return (error?: ConnectError) => {
      const durationMs = performance.now() - startedAt;
      observeEnd(durationMs, error?.code);
      logOutcome(method, context, durationMs, error);
    };
  };
  const ids = findStoreIds(method, aliases);
  const isStream = method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming";
  const receive = (request: never, caller: Principal) =>
    isStream ? ids.receiveAll(request, caller) : ids.receive(request, caller);
  if (method.methodKind === "unary" || method.methodKind === "client_streaming") {
    return async (request, context) => {
      const end = begin(context);
      const caller = context.values.get(principal);
      try {
        const received: unknown = receive(request, caller);
        // Without waiting where nothing has to be read.
        const message =
          received instanceof Promise ? await (received as Promise<never>) : (received as never);
        const reply: unknown = ids.send(await run(message, context), caller);
        context.values.get(replyHolder)(estimateJsonLength(reply));
        end();
        return reply;
      } catch (error) {
        const failure = toConnectError(isReset(error, context) ? cancelled(error) : translate(error));
        end(failure);
        throw failure;
      }
    };
  }
  return async function* (request, context) {
    const end = begin(context);
    const caller = context.values.get(principal);
    // If the caller disconnects, the generator is closed by `return`, which runs `finally` only: so CANCELLED
    // is the default.
    let failure: ConnectError | undefined = cancelled();
    let isTaken = true;
    try {
      const message = (await receive(request, caller)) as never;
      for await (const reply of run(message, context) as AsyncIterable<unknown>) {
        isTaken = false;
        yield ids.send(reply, caller);
        isTaken = true;
      }
      failure = undefined;
    } catch (error) {
      // An error thrown into the generator at `yield` means that the reply could not be sent: the caller has
      // disconnected, or its deadline has passed.
      const { reason } = context.signal;
      const unsent = isDeadline(reason) ? reason : cancelled();
      const ending = isTaken && !isReset(error, context) ? toConnectError(translate(error)) : unsent;
      failure = ending;
      throw ending;
    } finally {
      end(failure);
    }
  };
}

/**
 * Whether a call failed because its caller reset the HTTP/2 stream. Connect aborts a call with INTERNAL for some of the
 * codes that a caller may choose: for the service it has hung up.
 */
function isReset(error: unknown, { signal }: HandlerContext): error is ConnectError {
  return error instanceof ConnectError && error.code === Code.Internal && error === signal.reason;
}

function isDeadline(reason: unknown): reason is ConnectError {
  return reason instanceof ConnectError && reason.code === Code.DeadlineExceeded;
}

function logOutcome(
  method: DescMethod,
  context: HandlerContext,
  durationMs: number,
  error?: ConnectError,
): void {
  const log = context.values.get(callLogger);
  if (log === undefined) return;
  const { project, keyId } = context.values.get(principal);
  const line = {
    rpc: `${method.parent.typeName}/${method.name}`,
    protocol: context.protocolName,
    ...(keyId !== "" && { project, key: keyId }),
    durationMs: Math.round(durationMs * 10) / 10,
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
