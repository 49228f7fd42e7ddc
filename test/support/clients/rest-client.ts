import { once } from "node:events";
import { connect as connectHttp2, type ClientHttp2Session } from "node:http2";
import { text as readText } from "node:stream/consumers";
import { getOption, hasOption, type DescMethod } from "@bufbuild/protobuf";
import { http } from "../../../gen/google/api/annotations_pb.ts";
import {
  callError,
  headersOf,
  type CallError,
  type CallOptions,
  type Client,
  type Json,
  type Protocol,
} from "./client.ts";
import { findMethod, splitByBody } from "./dialect.ts";
import { checkAgainstOpenApi } from "./openapi.ts";

interface HttpRequest {
  verb: string;
  /** Path and query. */
  path: string;
  body: string | undefined;
}

interface HttpReply {
  status: number;
  requestId: string | undefined;
  text: string;
}

type Send = (
  request: HttpRequest,
  headers: Record<string, string>,
  signal: AbortSignal,
) => Promise<HttpReply>;

export const restOverHttp1: Protocol = {
  name: "REST over HTTP/1.1",
  connect: ({ url }) => restClient((request, headers, signal) => sendHttp1(url, request, headers, signal)),
};

export const restOverHttp2: Protocol = {
  name: "REST over HTTP/2",
  connect({ url }) {
    const session = connectHttp2(url);
    return restClient(
      (request, headers, signal) => sendHttp2(session, request, headers, signal),
      () => session.destroy(),
    );
  },
};

function restClient(send: Send, close: () => void = () => undefined): Client {
  return {
    async call(rpc, json = {}, options = {}) {
      const method = findMethod(rpc);
      const request = toRequest(method, json);
      const headers = {
        ...(request.body !== undefined && { "content-type": "application/json" }),
        ...headersOf(options),
      };
      const reply = await send(request, headers, signalOf(options)).catch((error: unknown) => {
        throw fromAbort(error);
      });
      options.onRequestId?.(reply.requestId);
      if (reply.status !== 200) throw fromErrorBody(reply);
      const body = JSON.parse(reply.text) as Json;
      checkAgainstOpenApi(method, "reply", body);
      if (request.body !== undefined) checkAgainstOpenApi(method, "request", JSON.parse(request.body));
      return body;
    },
    async [Symbol.asyncDispose]() {
      close();
    },
  };
}

/**
 * The routes of an RPC's `google.api.http` rule, with field names in braces; empty if the RPC has no rule.
 */
export function routesOf(
  method: DescMethod,
): { verb: string; template: string; hasBody: boolean; body: string }[] {
  if (!hasOption(method, http)) return [];
  const rule = getOption(method, http);
  return [rule, ...rule.additionalBindings].map(({ pattern, body }) => {
    if (pattern.case === undefined || pattern.case === "custom") throw new Error(`no route: ${method.name}`);
    return { verb: pattern.case.toUpperCase(), template: pattern.value, hasBody: body !== "", body };
  });
}

/** Converts a call to an HTTP request: fields that are not in the path become the body or the query. */
function toRequest(method: DescMethod, json: Json): HttpRequest {
  const [route] = routesOf(method);
  if (route === undefined) throw new Error(`no route: ${method.name}`);
  const rest = { ...json };
  const path = route.template.replace(/\{(\w+)\}/g, (_, field: string) => {
    delete rest[field];
    return encodeURIComponent(String(json[field]));
  });
  const isWhole = route.body === "*";
  const { bound, rest: inner } = isWhole ? { bound: {}, rest } : splitByBody(method, rest, route.body);
  const body = route.hasBody ? JSON.stringify(inner) : undefined;
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(route.hasBody ? bound : rest)) {
    if (value !== null && value !== undefined)
      for (const item of [value].flat())
        query.append(name, typeof item === "string" ? item : JSON.stringify(item));
  }
  return { verb: route.verb, path: query.size === 0 ? path : `${path}?${query.toString()}`, body };
}

async function sendHttp1(
  url: string,
  { verb, path, body }: HttpRequest,
  headers: Record<string, string>,
  signal: AbortSignal,
): Promise<HttpReply> {
  const reply = await fetch(url + path, { method: verb, headers, body: body ?? null, signal });
  const requestId = reply.headers.get("x-request-id") ?? undefined;
  return { status: reply.status, requestId, text: await reply.text() };
}

async function sendHttp2(
  session: ClientHttp2Session,
  { verb, path, body }: HttpRequest,
  headers: Record<string, string>,
  signal: AbortSignal,
): Promise<HttpReply> {
  const stream = session.request({ ":method": verb, ":path": path, ...headers }, { signal });
  stream.end(body);
  const [reply] = (await once(stream, "response")) as [Record<string, unknown>];
  const requestId = reply["x-request-id"] as string | undefined;
  return { status: Number(reply[":status"]), requestId, text: await readText(stream) };
}

function signalOf({ signal, timeoutMs }: CallOptions): AbortSignal {
  const signals = signal === undefined ? [] : [signal];
  return AbortSignal.any(timeoutMs === undefined ? signals : [...signals, AbortSignal.timeout(timeoutMs)]);
}

function fromAbort(error: unknown): unknown {
  const { name, message, cause } = error as Error;
  if (name === "TimeoutError" || (cause as Error | undefined)?.name === "TimeoutError") {
    return callError("deadline_exceeded", message);
  }
  return name === "AbortError" ? callError("cancelled", message) : error;
}

/** Error codes for which status 400 means FAILED_PRECONDITION; otherwise it means INVALID_ARGUMENT. */
const PRECONDITIONS = ["VECTOR_STORE_EXPIRED", "EMBEDDING_MODEL_MISMATCH"];
const CODES: Record<number, string> = {
  400: "invalid_argument",
  401: "unauthenticated",
  403: "permission_denied",
  404: "not_found",
  409: "already_exists",
  413: "resource_exhausted",
  429: "resource_exhausted",
  500: "internal",
  501: "unimplemented",
  503: "unavailable",
  504: "deadline_exceeded",
};

function fromErrorBody({ status, text, requestId }: HttpReply): CallError {
  const { error } = JSON.parse(text) as {
    error: { message: string; param: string | null; code: string | null };
  };
  const silent = status === 404 ? "NOT_FOUND" : status === 500 ? "INTERNAL" : null;
  const reason = error.code?.toUpperCase() ?? silent;
  const code = PRECONDITIONS.includes(reason ?? "")
    ? "failed_precondition"
    : (CODES[status] ?? `HTTP ${status}`);
  return callError(code, error.message, { reason, param: error.param, requestId });
}
