import {
  context,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  type Context,
  type Span,
  type Tracer,
} from "@opentelemetry/api";
import { W3CTraceContextPropagator } from "@opentelemetry/core";
import type { ActiveSpan, SpanOrigin, Tracing } from "../../tracing.ts";

const KINDS = { server: SpanKind.SERVER, client: SpanKind.CLIENT, internal: SpanKind.INTERNAL };

const propagator = new W3CTraceContextPropagator();
const getter = {
  keys: (headers: Record<string, unknown>) => Object.keys(headers),
  get: (headers: Record<string, unknown>, key: string) => headers[key] as string | string[] | undefined,
};
const setter = {
  set: (headers: Record<string, string>, key: string, value: string) => (headers[key] = value),
};

/** Makes spans by a tracer of OpenTelemetry's SDK. */
export function createTracing(tracer: Tracer): Tracing {
  return {
    start(name, describe, origin) {
      const parent = parentOf(origin);
      if (parent === undefined) return undefined;
      const { kind, attributes } = describe();
      const span = tracer.startSpan(name, { kind: KINDS[kind], attributes }, parent);
      return toActive(span, trace.setSpan(parent, span));
    },
    isInSpan: () => trace.getActiveSpan()?.isRecording() === true,
    ids() {
      const found = trace.getActiveSpan()?.spanContext();
      return found && { trace_id: found.traceId, span_id: found.spanId };
    },
    headers() {
      const headers: Record<string, string> = {};
      if (trace.getActiveSpan() !== undefined) propagator.inject(context.active(), headers, setter);
      return headers;
    },
  };
}

/**
 * Undefined where a span would have no parent that is recorded. Work that a call has left behind, such as an update that
 * several calls share, runs in the call's context still; but the call's span has ended, and is no parent any more.
 */
function parentOf(origin: SpanOrigin | undefined): Context | undefined {
  if (origin === "root") return ROOT_CONTEXT;
  if (origin !== undefined) return propagator.extract(ROOT_CONTEXT, origin, getter);
  const active = context.active();
  return trace.getSpan(active)?.isRecording() === true ? active : undefined;
}

function toActive(span: Span, inSpan: Context): ActiveSpan {
  let hasEnded = false;
  return {
    run: (work) => context.with(inSpan, work),
    set: (attributes) => void span.setAttributes(attributes),
    end(error, message) {
      if (hasEnded) return;
      hasEnded = true;
      if (error !== undefined) {
        span.setAttribute("error.type", error);
        span.setStatus({ code: SpanStatusCode.ERROR, ...(message !== undefined && { message }) });
      }
      span.end();
    },
  };
}
