import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import type { DescMethod } from "@bufbuild/protobuf";
import { createHandlerContext, type HandlerContext } from "@connectrpc/connect";
import type { FastifyBaseLogger } from "fastify";
import type { Scope } from "../../../gen/pgquiver/v1/options_pb.ts";
import type { Principal } from "../../api/principal.ts";
import type { Authenticator } from "../caller/auth.ts";
import type { BodyRate } from "../body-rate.ts";
import type { AuditTrail, Origin } from "../audit.ts";
import { callValues } from "../call.ts";
import type { RequestLimits } from "../limits/request-limits.ts";
import type { ReplyBudget } from "../reply-budget.ts";
import type { AdmitFor, Implementation, Service } from "../service.ts";
import type { RefuseForeign } from "../caller/web-pages.ts";

/** Settings of the gRPC calls that are served directly from their HTTP/2 streams. */
export interface GrpcOptions {
  services: readonly Service[];
  authenticator: Authenticator;
  trail: AuditTrail;
  refuseForeign: RefuseForeign;
  /** The minimum rate of the bodies of unary requests. */
  rate: BodyRate;
  /** Maximum size of a request message, in bytes. */
  requestBytesMax: number;
  /** Reserves memory for the message of a unary request. */
  admitBody: AdmitFor;
  /** The replies that are not sent yet. */
  replies: ReplyBudget;
  /** Parent of the calls' loggers. */
  log: FastifyBaseLogger;
}

/** An RPC and its implementation. */
export interface Target {
  method: DescMethod;
  run: Implementation[string];
  limits: RequestLimits;
  /** What the RPC needs of a key. */
  scope: Scope;
  /** Reserves memory for each message of a client's stream. */
  admit: AdmitFor;
}

/** Where the request of a stream came from. */
export function originOf(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, requestId: string): Origin {
  // A stream whose client is gone has no session.
  const socket = stream.session?.socket;
  return { requestId, address: socket?.remoteAddress ?? "", headers, path: headers[":path"] ?? "", socket };
}

/** The context of a call, as Connect makes it for its handlers. */
export function createContext(
  method: DescMethod,
  stream: ServerHttp2Stream,
  origin: Origin,
  principal: Principal,
  signal: AbortSignal,
  { replies, log }: GrpcOptions,
): HandlerContext {
  return createHandlerContext({
    service: method.parent,
    method,
    protocolName: "grpc",
    requestMethod: "POST",
    url: String(origin.headers[":path"]),
    requestSignal: signal,
    contextValues: callValues({
      log: log.child({ requestId: origin.requestId }),
      origin,
      principal,
      holdReply: (bytes) => replies.hold(stream, bytes),
    }),
  });
}
