import { Code, ConnectError } from "@connectrpc/connect";
import type { Attributes } from "@opentelemetry/api";
import { describeError } from "./errors.ts";

/**
 * Spans of OpenTelemetry, for all folders. The SDK is loaded by `monitoring/otel/` where an endpoint is configured;
 * without it everything here is a comparison with undefined.
 */
export interface Tracing {
  /** Starts a span; undefined where it would have no parent: `describe` is then not called. */
  start: (name: string, describe: () => SpanOptions, origin?: SpanOrigin) => ActiveSpan | undefined;
  /** Whether a span is active and recorded, so that spans started now have a parent. */
  isInSpan: () => boolean;
  /** The ids of the active span, for log lines. */
  ids: () => { trace_id: string; span_id: string } | undefined;
  /** The headers that make a server a part of the active span's trace (W3C Trace Context). */
  headers: () => Record<string, string>;
}

/** What a span is about. */
export interface SpanOptions {
  kind: "server" | "client" | "internal";
  attributes: Attributes;
}

/** Where a trace comes from: the headers of a request, or `root` for a trace of its own. */
export type SpanOrigin = Record<string, string | string[] | undefined> | "root";

/** A span that is being recorded. */
export interface ActiveSpan {
  /** Runs work whose spans are parts of this one. */
  run: <T>(work: () => T) => T;
  set: (attributes: Attributes) => void;
  /** Ends the span; `error` is the type of the error that it failed with. */
  end: (error?: string, message?: string) => void;
}

let tracing: Tracing | undefined;

/** Turns tracing on, or off again. */
export function setTracing(to: Tracing | undefined): void {
  tracing = to;
}

/** Whether a span is active and recorded. */
export function isInSpan(): boolean {
  return tracing?.isInSpan() ?? false;
}

/** Whether tracing is on. */
export function isTracing(): boolean {
  return tracing !== undefined;
}

/**
 * Starts a span, which is part of the active one unless an `origin` is given; undefined where it would have no parent,
 * and where tracing is off.
 */
export function startSpan(
  name: string,
  describe: () => SpanOptions,
  origin?: SpanOrigin,
): ActiveSpan | undefined {
  return tracing?.start(name, describe, origin);
}

/** Runs work in a span, see `startSpan`, which ends with the work, and fails with it. */
export async function traced<T>(
  name: string,
  describe: () => Partial<SpanOptions>,
  work: (span: ActiveSpan | undefined) => Promise<T>,
  origin?: SpanOrigin,
): Promise<T> {
  const span = startSpan(name, () => ({ kind: "internal", attributes: {}, ...describe() }), origin);
  if (span === undefined) return work(undefined);
  try {
    const result = await span.run(() => work(span));
    span.end();
    return result;
  } catch (error) {
    span.end(errorType(error));
    throw error;
  }
}

/** The ids of the active span; undefined where there is none. */
export function traceIds(): { trace_id: string; span_id: string } | undefined {
  return tracing?.ids();
}

/** The headers of the active trace for a request to another server; none where there is no trace. */
export function traceHeaders(): Record<string, string> {
  return tracing?.headers() ?? {};
}

/** The attribute `error.type` of an error: its reason, its code, such as a SQLSTATE, or the name of its class. */
export function errorType(error: unknown): string {
  if (!(error instanceof Error)) return "_OTHER";
  if (error instanceof ConnectError) return describeError(error)?.reason ?? Code[error.code];
  return "code" in error && typeof error.code === "string" ? error.code : error.name;
}
