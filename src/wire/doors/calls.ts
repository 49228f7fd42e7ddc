import {
  create,
  type DescMessage,
  type DescMethod,
  type DescMethodClientStreaming,
  type DescMethodUnary,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Scope } from "../../../gen/pgquiver/v1/options_pb.ts";
import type { Principal } from "../../api/principal.ts";
import { scopeOf } from "../../api/scope.ts";
import { requireScopeOf, type AuditTrail } from "../audit.ts";
import type { Health } from "../grpc/health.ts";
import { abortOnClose, httpContext, type ToCall } from "../rest/context.ts";
import type { TokenIssuer } from "../caller/protected-resource.ts";
import type { Implementation, Service } from "../service.ts";

/** Registers the routes of another product's API. */
export type Door = (app: FastifyInstance, options: DoorOptions) => void;

/** What a door works with. */
export interface DoorOptions {
  calls: OpenCalls;
  /** Takes the routes that need no key. */
  openApp: FastifyInstance;
  health: Health;
  /** Maximum size of a request body, in bytes. */
  requestBytesMax: number;
  /** Undefined: tokens are not taken. */
  issuer: TokenIssuer | undefined;
}

/** Opens the calls of a request. `protocol` is what metrics, log and audit log call the door. */
export type OpenCalls = (request: FastifyRequest, reply: FastifyReply, protocol: string) => Calls;

/**
 * Calls RPCs for the caller of a request, as every front end does: each call needs its RPC's scope, and is counted, logged,
 * audited and held to the caller's limits.
 */
export interface Calls {
  /** Who makes the request. */
  caller: Principal;
  /** Aborts when the client goes away. */
  signal: AbortSignal;
  /** Calls a unary RPC. */
  unary: <I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    message: MessageInitShape<I>,
  ) => Promise<MessageShape<O>>;
  /** Calls an RPC with a stream of messages. */
  upload: <I extends DescMessage, O extends DescMessage>(
    method: DescMethodClientStreaming<I, O>,
    messages: AsyncIterable<MessageShape<I>>,
  ) => Promise<MessageShape<O>>;
}

/** Creates the function that opens the calls of a request. */
export function openCalls(
  services: readonly Service[],
  parts: {
    trail: AuditTrail;
    toCall: ToCall;
    onMissingScope: (caller: Principal, scope: Scope, path: string) => void;
  },
): OpenCalls {
  const implementations = new Map<DescMethod, Implementation[string] | undefined>();
  for (const { desc, implementation } of services)
    for (const method of desc.methods) implementations.set(method, implementation[method.localName]);
  return (request, reply, protocol) => {
    const signal = abortOnClose(reply);
    const caller = request.principal;
    const run = async (method: DescMethod, message: unknown) => {
      const implementation = implementations.get(method);
      if (implementation === undefined) throw new Error(`${method.toString()} is not served`);
      const call = parts.toCall(request, reply.raw);
      if (!caller.scopes.has(scopeOf(method)))
        parts.onMissingScope(caller, scopeOf(method), call.origin.path);
      await requireScopeOf(parts.trail, method, caller, call.origin, protocol);
      const context = httpContext(method, protocol, request, call, signal);
      return (await implementation(message as never, context)) as never;
    };
    return {
      caller,
      signal,
      unary: (method, message) => run(method, create(method.input, message)),
      upload: (method, messages) => run(method, messages),
    };
  };
}
