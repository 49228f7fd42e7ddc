import type { ServerHttp2Stream } from "node:http2";
import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError, createContextKey, type HandlerContext } from "@connectrpc/connect";
import type { FastifyRequest } from "fastify";
import type { Scope } from "../../gen/pgquiver/v1/options_pb.ts";
import { auditedValue, auditOf, storableText, type AuditEntry, type AuditRule } from "../api/audit.ts";
import { makeIdentifier } from "../api/identifier.ts";
import { NOBODY, principal, refusedPrincipal, requireScope, type Principal } from "../api/principal.ts";
import { scopeOf } from "../api/scope.ts";
import type { Authenticator, Credentials } from "./caller/auth.ts";
import { toConnectError } from "./error.ts";
import { nameOf } from "./metrics.ts";
import type { Implementation } from "./service.ts";

/** Where a request came from. */
export interface Origin extends Credentials {
  requestId: string;
  /** Of the other end of the connection. */
  address: string;
  /** Whether the connection has TLS; undefined where it does not matter. */
  scheme?: "http" | "https";
}

/** Where a request of Fastify's came from. */
export function originOf({ id, ip, headers, protocol, method, routeOptions, raw }: FastifyRequest): Origin {
  // Over HTTP/2 `raw.socket` is another object for each request.
  const { stream } = raw as { stream?: ServerHttp2Stream };
  const socket = stream === undefined ? raw.socket : stream.session?.socket;
  const path = `${method} ${routeOptions.url ?? ""}`;
  return { requestId: id, address: ip, headers, scheme: protocol, path, socket };
}

/** Where the request of a call came from. */
export const origin = createContextKey<Origin>({
  requestId: "",
  address: "",
  headers: {},
  path: "",
  socket: undefined,
});

/** Records calls in the audit log. */
export interface AuditTrail {
  /** Whether reads, searches and writes of data are recorded too. */
  readonly includesReads: boolean;
  /**
   * Runs an act, and resolves when its entry is committed: with the act's own transaction, unless `complete` has to add
   * to the entry what only the reply says.
   */
  act: <T>(
    entry: AuditEntry,
    isCreation: boolean,
    run: () => Promise<T>,
    complete: (reply: T) => void,
  ) => Promise<T>;
  /** Records a call without waiting. */
  note: (entry: AuditEntry) => void;
  /** Records a failed call without waiting; counts it where an equal one was recorded a short while ago. */
  refuse: (entry: AuditEntry) => void;
}

type Json = Record<string, unknown>;

/**
 * Wraps an RPC with its recording. `translate` maps the errors of lower layers. Returns the RPC itself when its calls
 * are not recorded.
 */
export function withAudit(
  method: DescMethod,
  run: Implementation[string],
  translate: (error: unknown) => unknown,
  trail: AuditTrail,
): Implementation[string] {
  const rule = auditOf(method);
  if (!rule.isAct && !trail.includesReads) return run;
  const isStream = method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming";
  if (isStream) return withAuditOfStream(method, run, rule, trail);
  return async (request, context) => {
    const caller = context.values.get(principal);
    const entry = describe(method, rule, context.values.get(origin), caller, context.protocolName);
    // Before the call, which changes the ids of stores in the request.
    addRequest(entry, method, rule, request as Json);
    const complete = (reply: unknown) => addReply(entry, rule, caller, request as Json, reply as Json);
    try {
      if (rule.isAct) {
        if (!rule.isCreation) complete({});
        return await trail.act(entry, rule.isCreation, async () => run(request, context), complete);
      }
      const reply: unknown = await run(request, context);
      complete(reply);
      trail.note(entry);
      return reply;
    } catch (error) {
      const failure = toConnectError(translate(error));
      trail.refuse({ ...entry, projectId: caller.project, outcome: nameOf(failure.code) });
      throw failure;
    }
  };
}

function withAuditOfStream(
  method: DescMethod,
  run: Implementation[string],
  rule: AuditRule,
  trail: AuditTrail,
): Implementation[string] {
  return async function* (request: never, context: HandlerContext) {
    const caller = context.values.get(principal);
    const entry = describe(method, rule, context.values.get(origin), caller, context.protocolName);
    if (method.methodKind === "server_streaming") addRequest(entry, method, rule, request as Json);
    let outcome = "cancelled";
    try {
      yield* run(request, context) as AsyncIterable<unknown>;
      outcome = "ok";
    } catch (error) {
      outcome = nameOf(ConnectError.from(error).code);
      throw error;
    } finally {
      if (outcome === "ok") trail.note(entry);
      else trail.refuse({ ...entry, outcome });
    }
  };
}

/** Throws PERMISSION_DENIED, and records it, when a caller who is identified lacks the scope of an RPC. */
export async function requireScopeOf(
  trail: AuditTrail,
  method: DescMethod,
  caller: Principal,
  from: Origin,
  protocol: string,
): Promise<void> {
  const identify = () => {
    requireScope(caller, scopeOf(method));
    return caller;
  };
  const authenticator = { isOpen: () => false, identify };
  await identifyCaller({ authenticator, trail }, method, scopeOf(method), from, protocol);
}

/** Identifies the caller of an RPC; records it when the caller is refused. `method` undefined: nothing is recorded. */
export async function identifyCaller(
  { authenticator, trail }: { authenticator: Authenticator; trail: AuditTrail },
  method: DescMethod | undefined,
  scope: Scope | undefined,
  from: Origin,
  protocol: string,
): Promise<Principal> {
  try {
    return await authenticator.identify(from, scope);
  } catch (error) {
    const { code } = toConnectError(error);
    const isRefused = code === Code.Unauthenticated || code === Code.PermissionDenied;
    if (method !== undefined && isRefused) {
      const rule = auditOf(method);
      const entry = describe(method, rule, from, refusedPrincipal(error) ?? NOBODY, protocol);
      if (rule.isAct || trail.includesReads) trail.refuse({ ...entry, outcome: nameOf(code) });
    }
    throw error;
  }
}

function describe(
  method: DescMethod,
  { event }: AuditRule,
  { requestId, address, headers }: Origin,
  { project, keyId }: Principal,
  protocol: string,
): AuditEntry {
  const { id, createdAt } = makeIdentifier("audit");
  return {
    id,
    at: createdAt,
    projectId: project,
    event,
    actorId: keyId === "" ? null : keyId,
    resourceId: null,
    data: {},
    outcome: "ok",
    count: 1,
    address,
    forwardedFor: readHeader(headers["x-forwarded-for"]),
    userAgent: readHeader(headers["user-agent"]),
    requestId,
    rpc: `${method.parent.typeName}/${method.name}`,
    protocol,
  };
}

function readHeader(value: string | string[] | undefined): string | null {
  return value === undefined ? null : storableText(String(value));
}

function addRequest(entry: AuditEntry, method: DescMethod, rule: AuditRule, request: Json): void {
  if (method.methodKind === "client_streaming") return;
  if (rule.resource !== undefined) {
    const id = request[rule.resource.localName];
    entry.resourceId = typeof id === "string" ? storableText(id) : null;
  }
  for (const field of rule.data) {
    const value = auditedValue(field, request[field.localName]);
    if (value !== undefined) entry.data[field.name] = value;
  }
}

/** Adds what is known once the call succeeds: what it made, and whose it is. */
function addReply(entry: AuditEntry, rule: AuditRule, caller: Principal, request: Json, reply: Json): void {
  const { id, vectorStoreId } = reply;
  const made = rule.isCreation || rule.resource === undefined ? (id ?? vectorStoreId) : undefined;
  if (typeof made === "string") entry.resourceId = storableText(made);
  const { projectId } = request;
  entry.projectId = typeof projectId === "string" && rule.isAct ? projectId : caller.project;
}
