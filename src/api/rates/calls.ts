import type { DescMethod, DescService } from "@bufbuild/protobuf";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { Scope } from "../../../gen/pgquiver/v1/options_pb.ts";
import { withWaitBudget } from "../../postgres/connection/wait-budget.ts";
import { inProject, streamInProject } from "../../postgres/row-security/call.ts";
import type { Slots } from "../concurrency/slots.ts";
import { principal } from "../principal.ts";
import { isWatch, scopeOf } from "../scope.ts";
import type { Limiter } from "./limiter.ts";

/** How long the connections that one unary call needs may be waited for, all together. */
const CALL_WAIT_MS = 10_000;

type Run = (request: never, context: HandlerContext) => unknown;

/**
 * Bounds the calls of a service: runs each as one of its project, takes a slot for each unary call, and gives the call a wait budget; and holds searches
 * and streams to the limits of their callers. Streams have no wait budget: a bulk load may wait for each of its
 * transactions, and has slots of its own; so have watches.
 */
export function boundCalls<S extends DescService>(
  desc: S,
  implementation: ServiceImpl<S>,
  calls: Slots,
  limiter: Limiter,
): ServiceImpl<S> {
  const bounded: Record<string, Run> = {};
  for (const method of desc.methods) {
    const implemented = (implementation as Record<string, Run>)[method.localName]?.bind(implementation);
    if (implemented === undefined) continue;
    const run = ofProject(method, implemented, limiter);
    const isSearch = scopeOf(method) === Scope.SEARCH;
    bounded[method.localName] =
      method.methodKind === "unary"
        ? boundCall(run, calls, isSearch ? limiter : undefined)
        : method.methodKind === "client_streaming"
          ? boundUpload(run, limiter)
          : isWatch(method)
            ? run
            : boundStream(run, limiter);
  }
  return bounded as ServiceImpl<S>;
}

/** Runs each call as one of its caller's project, with the connections that the caller may hold. */
function ofProject({ methodKind }: DescMethod, run: Run, limiter: Limiter): Run {
  const isReply = methodKind === "unary" || methodKind === "client_streaming";
  return (request, context) => {
    const caller = context.values.get(principal);
    const { project } = caller;
    const bounds = { places: limiter.placesOf(caller), signal: context.signal };
    if (isReply) return inProject(project, () => run(request, context), bounds);
    return streamInProject(project, () => run(request, context) as AsyncIterable<unknown>, bounds);
  };
}

function boundCall(run: Run, calls: Slots, limiter: Limiter | undefined): Run {
  return async (request, context) => {
    const caller = context.values.get(principal);
    using _search = limiter?.enter(caller, "max_concurrent_searches");
    using _slot = calls.take("Too many calls at the same time: try again later.", caller.caller);
    return await withWaitBudget(CALL_WAIT_MS, async () => run(request, context));
  };
}

function boundUpload(run: Run, limiter: Limiter): Run {
  return async (requests, context) => {
    using _stream = limiter.enter(context.values.get(principal), "max_concurrent_streams");
    return await run(requests, context);
  };
}

function boundStream(run: Run, limiter: Limiter): Run {
  return async function* (requests, context) {
    using _stream = limiter.enter(context.values.get(principal), "max_concurrent_streams");
    yield* run(requests, context) as AsyncIterable<unknown>;
  };
}
