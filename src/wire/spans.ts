import { getOption, hasOption, type DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import { http } from "../../gen/google/api/annotations_pb.ts";
import { principal } from "../api/principal.ts";
import { isTracing, startSpan, type ActiveSpan, type SpanOptions } from "../tracing.ts";
import { origin } from "./audit.ts";
import { toHttpError } from "./error.ts";
import { nameOf } from "./metrics.ts";
import type { Implementation } from "./service.ts";

/** Codes that are the server's fault by OpenTelemetry's conventions for gRPC. */
const FAULTS: ReadonlySet<Code> = new Set([
  Code.Unknown,
  Code.DeadlineExceeded,
  Code.Unimplemented,
  Code.Internal,
  Code.Unavailable,
  Code.DataLoss,
]);

/**
 * Wraps an RPC with a SERVER span for each call, part of the trace that the request's `traceparent` names. Returns the
 * RPC itself where nothing is traced.
 */
export function withSpan(method: DescMethod, run: Implementation[string]): Implementation[string] {
  if (!isTracing()) return run;
  const rpc = `${method.parent.typeName}/${method.name}`;
  const { pattern } = hasOption(method, http) ? getOption(method, http) : {};
  const route = typeof pattern?.value === "string" ? pattern.value : "";
  const start = (context: HandlerContext) =>
    context.protocolName === "rest"
      ? startSpan(
          `${context.requestMethod} ${route}`,
          () => describeHttp(rpc, route, context),
          context.values.get(origin).headers,
        )
      : startSpan(rpc, () => describeRpc(rpc, context), context.values.get(origin).headers);
  if (method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming") {
    return (request, context) => {
      const span = start(context);
      const replies = run(request, context) as AsyncIterable<unknown>;
      return span === undefined ? replies : within(span, replies, context);
    };
  }
  return async (request, context) => {
    const span = start(context);
    if (span === undefined) return run(request, context);
    try {
      const reply: unknown = await span.run(async () => run(request, context));
      end(span, context);
      return reply;
    } catch (error) {
      end(span, context, ConnectError.from(error));
      throw error;
    }
  };
}

/** The replies of a stream, each of which is made in the span. */
function within(
  span: ActiveSpan,
  replies: AsyncIterable<unknown>,
  context: HandlerContext,
): AsyncIterable<unknown> {
  const iterator = span.run(() => replies[Symbol.asyncIterator]());
  const step = async (advance: () => Promise<IteratorResult<unknown>> | undefined) => {
    try {
      const result = await span.run(async () => (await advance()) ?? { done: true, value: undefined });
      if (result.done === true) end(span, context);
      return result;
    } catch (error) {
      end(span, context, ConnectError.from(error));
      throw error;
    }
  };
  const steps: AsyncIterableIterator<unknown> = {
    next: () => step(() => iterator.next()),
    return: (value) => step(() => iterator.return?.(value)),
    throw: (error) => step(() => iterator.throw?.(error)),
    [Symbol.asyncIterator]: () => steps,
  };
  return steps;
}

function end(span: ActiveSpan, { protocolName }: HandlerContext, error?: ConnectError): void {
  const isHttp = protocolName === "rest";
  const status = isHttp && error !== undefined ? toHttpError(error).status : 200;
  const code = error === undefined ? "OK" : nameOf(error.code).toUpperCase();
  span.set(
    isHttp
      ? { "http.response.status_code": status }
      : { "rpc.response.status_code": protocolName === "connect" ? code.toLowerCase() : code },
  );
  if (error === undefined) return span.end();
  if (isHttp ? status >= 500 : FAULTS.has(error.code)) span.end(code, error.rawMessage);
  else {
    span.set({ "error.type": code });
    span.end();
  }
}

function describeRpc(rpc: string, context: HandlerContext): SpanOptions {
  const { protocolName } = context;
  const system =
    protocolName === "connect" ? "connectrpc" : protocolName.startsWith("grpc") ? "grpc" : protocolName;
  return describe({ "rpc.system.name": system, "rpc.method": rpc }, context);
}

function describeHttp(rpc: string, route: string, context: HandlerContext): SpanOptions {
  const attributes = {
    "http.request.method": context.requestMethod,
    "http.route": route,
    "url.path": context.url.split("?", 1)[0] ?? "",
    "url.scheme": context.values.get(origin).scheme ?? "http",
    "rpc.method": rpc,
  };
  return describe(attributes, context);
}

function describe(attributes: SpanOptions["attributes"], { values }: HandlerContext): SpanOptions {
  const { requestId, address, headers } = values.get(origin);
  const { project, keyId } = values.get(principal);
  const agent = headers["user-agent"];
  return {
    kind: "server",
    attributes: {
      ...attributes,
      "client.address": address,
      ...(agent !== undefined && { "user_agent.original": agent }),
      "pgquiver.request_id": requestId,
      "pgquiver.project": project,
      ...(keyId !== "" && { "pgquiver.key": keyId }),
    },
  };
}
