import type { DescService } from "@bufbuild/protobuf";
import { ConnectError, type ConnectRouter, type HandlerContext, type ServiceImpl } from "@connectrpc/connect";
import { fastifyConnectPlugin } from "@connectrpc/connect-fastify";
import { compressionGzip } from "@connectrpc/connect-node";
import type { Server as TlsServer } from "node:tls";
import fastifyCors from "@fastify/cors";
import fastify, {
  LogController,
  type FastifyBaseLogger,
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from "fastify";
import { Health as HealthService } from "../../gen/health/v1/health_pb.ts";
import { NOBODY, principal, type Principal } from "../api/principal.ts";
import { cancelled, invalidArgument, unauthenticated } from "../errors.ts";
import { identifyCaller, originOf, type AuditTrail } from "./audit.ts";
import { createAuthenticator, type Authenticator, type KeyOptions } from "./caller/auth.ts";
import { openCalls, type Door } from "./doors/calls.ts";
import { dropBody, limitBody, requireBodyRate } from "./body-rate.ts";
import { callValues } from "./call.ts";
import {
  httpError,
  sendError,
  toConnectError,
  toHttpError,
  unsupportedType,
  type HttpError,
} from "./error.ts";
import { createGrpc } from "./grpc/direct.ts";
import { abortOnHangUp } from "./grpc/hang-up.ts";
import { healthRoutes, type Health } from "./grpc/health.ts";
import { reflectionServices, registerReflection } from "./grpc/reflection.ts";
import { receiveRequests, refusal } from "./grpc/requests.ts";
import { encodeMessage } from "./grpc/response.ts";
import { messageTooLarge } from "./limits/request-limits.ts";
import { readCertificates, watchCertificates, type TlsFiles } from "./certificates.ts";
import { clampTimeouts, hasUnknownExpectation, refuseRepeated } from "./headers.ts";
import { metricsRoute, type Metrics } from "./metrics.ts";
import { createPortServer, createTlsPortServer, portDefaults, type PortOptions } from "./port.ts";
import { ReplyBudget } from "./reply-budget.ts";
import { consoleRoutes } from "./pages/console.ts";
import { referenceRoutes } from "./pages/reference.ts";
import { requestId } from "./request-id.ts";
import { canonicalUrl } from "./rest/legacy.ts";
import { protectedResourceRoutes, type TokenIssuer } from "./caller/protected-resource.ts";
import { limitCallers, setReplyHeaders, type RequestLimiter } from "./caller/rates.ts";
import { BY_CALL, readBodies } from "./rest/body.ts";
import { bidirectionalRoutes, streamingRoutes } from "./rest/bindings.ts";
import type { ToCall } from "./rest/context.ts";
import { endUploadAfterAnswer, registerRest, type RestRoute } from "./rest/rest.ts";
import { createScopeLog } from "./caller/scope-refusals.ts";
import type { AdmitFor, Service } from "./service.ts";
import { endSlow, refuseUnreadable } from "./unreadable.ts";
import { createCertificateGuard, createPageGuard, type RefuseForeign } from "./caller/web-pages.ts";

export interface ServerOptions extends KeyOptions {
  services: readonly Service[];
  health: Health;
  metrics: Metrics;
  trail: AuditTrail;
  /** Routes of other products' APIs; default: none. */
  doors?: readonly Door[] | undefined;
  /** Undefined: tokens are not taken. */
  issuer?: TokenIssuer | undefined;
  /** Maximum size of a request message or body, in bytes. */
  requestBytesMax: number;
  /** Reserves memory for the body of a request, or its one message. */
  admitBody: AdmitFor;
  /** Undefined: nobody has a limit. */
  limiter?: RequestLimiter | undefined;
  /** Origins allowed by CORS; "*": all; empty: no CORS headers. */
  corsOrigins: readonly string[];
  /** Paths of PEM files; undefined: no TLS. */
  tls: TlsFiles | undefined;
  /** Parent of the loggers of requests. */
  log: FastifyBaseLogger;
  /** Limits of connections; default: `portDefaults`. */
  port?: PortOptions | undefined;
  /** Aborts all calls in flight, at the end of the shutdown's grace period. */
  shutdownSignal: AbortSignal;
}

/**
 * Builds the server: one port for gRPC, gRPC-Web, Connect and OpenAI's REST, over HTTP/1.1 and HTTP/2, with
 * gRPC health checking and reflection. The server does not listen yet.
 */
export async function createServer(options: ServerOptions): Promise<FastifyInstance> {
  const { services, health, tls, requestBytesMax, log } = options;
  const onMissingScope = createScopeLog(log);
  const authenticator = identifyCallers(options, onMissingScope);
  const bounds = { ...portDefaults, ...options.port };
  const refuseForeign = createPageGuard(authenticator.isOpen, options.corsOrigins);
  const replies = new ReplyBudget(bounds);
  const grpc = createGrpc({ ...options, authenticator, refuseForeign, rate: bounds, replies });
  const toCall = describeCalls(replies);
  const app: FastifyInstance = fastify({
    serverFactory: (handler) =>
      tls === undefined
        ? createPortServer(handler, options.port, grpc)
        : createTlsPortServer(handler, { ...options.port, ...readCertificates(tls) }, grpc),
    bodyLimit: requestBytesMax,
    // Graceful shutdown: while draining, requests on open connections are still answered.
    return503OnClosing: false,
    routerOptions: { maxParamLength: 1024 },
    rewriteUrl: (request) => canonicalUrl(request.url ?? "/"),
    genReqId: (request) => requestId(request.headers["x-request-id"]),
    // call.ts logs one line per call.
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: "requestId" }),
    loggerInstance: log,
    clientErrorHandler: (error, socket) => refuseUnreadable(error, socket, log),
    // Fastify raises these errors before any hook runs, so that the header is set here.
    frameworkErrors: (error, request, reply) =>
      void sendError(reply.header("x-request-id", request.id), fromFastify(error, request)),
  });
  app.setErrorHandler<FastifyError>((error, request, reply) => {
    const failure = handled(error, request);
    dropBody(request.raw);
    // Fastify sets `connection: close`, which HTTP/2 does not have: Node warns.
    if (request.raw.httpVersionMajor === 2) reply.removeHeader("connection");
    if (failure.status === 413) {
      // Bytes that the client still sends would cause a RST, and the client could lose the response.
      reply.removeHeader("connection");
      endUploadAfterAnswer(request.raw, reply.raw);
    }
    return sendError(reply, failure);
  });
  app.addHook("onRequest", async (request, reply) => prepare(request, reply, health, refuseForeign));
  boundBodies(app, services, bounds, log);
  if (options.corsOrigins.length > 0) await app.register(fastifyCors, cors(options.corsOrigins));

  let routes: RestRoute[] = [];
  refuseEarly(app, services, () => routes);

  await app.register(connectPlugin(options, authenticator, toCall));
  await openRoutes(app, options);
  await app.register(async (rest) => {
    requireScopes(rest, { authenticator, trail: options.trail });
    readBodies(rest, options.admitBody);
    metricsRoute(rest, options.metrics);
    routes = registerRest(rest, services, requestBytesMax, toCall);
    const calls = openCalls(services, { trail: options.trail, toCall, onMissingScope });
    const door = { calls, openApp: app, health, requestBytesMax, issuer: options.issuer };
    for (const open of options.doors ?? []) open(rest, door);
  });
  if (tls !== undefined) renewCertificates(app, tls, log);
  return app;
}

/** The routes that need no key. */
async function openRoutes(app: FastifyInstance, { health, issuer }: ServerOptions): Promise<void> {
  healthRoutes(app, health);
  if (issuer !== undefined) protectedResourceRoutes(app, issuer);
  await app.register(referenceRoutes);
  await app.register(consoleRoutes);
}

function identifyCallers(
  options: ServerOptions,
  onMissingScope: ReturnType<typeof createScopeLog>,
): Authenticator {
  const { tls, limiter, metrics, corsOrigins } = options;
  const refusePages = tls?.clientCa === undefined ? undefined : createCertificateGuard(corsOrigins);
  const onUnknown = metrics.addCounter(
    "pgquiver_keys_refused_total",
    "Requests refused for a missing or wrong key.",
  );
  const identified = createAuthenticator({ ...options, refusePages }, { onUnknown, onMissingScope });
  return limiter === undefined ? identified : limitCallers(identified, limiter);
}

/** Answers requests that no route serves, before their bodies are read and parsed. */
function refuseEarly(
  app: FastifyInstance,
  services: readonly Service[],
  routes: () => readonly RestRoute[],
): void {
  const bidirectional = bidirectionalRoutes([...services.map(({ desc }) => desc), ...reflectionServices]);
  app.addHook("onRequest", async (request, reply) => {
    const refusal = hasUnknownExpectation(request.raw)
      ? httpError(417, `Unknown header 'Expect: ${request.headers.expect}'.`, { code: "invalid_request" })
      : request.is404
        ? noRoute(request, routes())
        : request.raw.httpVersionMajor === 1 && bidirectional.has(request.routeOptions.url ?? "")
          ? // Connect refuses such a request too, but closes the connection while the client still sends.
            httpError(505, "A stream in both directions needs HTTP/2.", { code: "invalid_request" })
          : undefined;
    if (refusal === undefined) return;
    dropBody(request.raw);
    endUploadAfterAnswer(request.raw, reply.raw);
    await sendError(reply, refusal);
  });
}

declare module "fastify" {
  interface FastifyRequest {
    /** Who makes the request, once the caller is identified. */
    principal: Principal;
  }
}

/**
 * Identifies the callers of an app's routes before their bodies are read. A route that does not say which scope it
 * needs is a fault of the program: it is not registered, and the service does not start.
 */
function requireScopes(
  app: FastifyInstance,
  identity: { authenticator: Authenticator; trail: AuditTrail },
): void {
  app.addHook("onRoute", ({ url, config }) => {
    if (config?.scope === undefined) throw new Error(`The route ${url} does not say which scope it needs`);
  });
  app.addHook("onRequest", async (request, reply) => {
    const { rpc, scope } = request.routeOptions.config;
    const needed = scope === BY_CALL ? undefined : scope;
    request.principal = await identifyCaller(identity, rpc, needed, originOf(request), "rest");
    setReplyHeaders(reply, identity.authenticator, request.principal);
  });
}

function describeCalls(replies: ReplyBudget): ToCall {
  return (request, response) => ({
    log: request.log,
    origin: originOf(request),
    principal: request.principal,
    holdReply: (bytes) => replies.hold(response, bytes),
  });
}

/** What every request gets before its route is called: headers of the response, and checks of the request's. */
function prepare(
  request: FastifyRequest,
  reply: FastifyReply,
  health: Health,
  refuseForeign: RefuseForeign,
): void {
  request.principal = NOBODY;
  // On the raw response, because Connect's handlers bypass Fastify's reply.
  reply.raw.setHeader("x-request-id", request.id);
  // During a shutdown: a request sent on a kept connection at the moment the server closes it would be reset.
  if (health.draining && request.raw.httpVersionMajor === 1) reply.raw.setHeader("connection", "close");
  if (request.raw.httpVersion === "1.1" && request.headers.host === undefined)
    throw invalidArgument(undefined, "Missing header: 'Host'.", "INVALID_REQUEST");
  refuseRepeated(request.raw);
  clampTimeouts(request.raw.headers);
  plainGrpcMessage(request, reply);
  refuseForeign(request.headers);
}

/**
 * Requires a minimum rate of the bodies of unary requests, and bounds the bodies of health checks, the only
 * ones that are read without a key. Reflection is a stream, which may pause.
 */
function boundBodies(
  app: FastifyInstance,
  services: readonly Service[],
  bounds: Required<PortOptions>,
  log: FastifyBaseLogger,
): void {
  const streaming = streamingRoutes(services);
  app.addHook("onRequest", async ({ raw, method, routeOptions: { url = "" } }, reply) => {
    // Nobody reads such a body to its end, which may come after the headers: the request would look unfinished.
    if (method === "GET") return dropBody(raw);
    const end = () => endSlow(raw, reply.raw, log);
    if (url.startsWith(`/${HealthService.typeName}/`)) limitBody(raw, bounds.healthBytesMax, end);
    if (!streaming.has(`${method} ${url}`) && !url.startsWith("/grpc.reflection."))
      requireBodyRate(raw, bounds, end);
  });
}

function renewCertificates(app: FastifyInstance, files: TlsFiles, log: FastifyBaseLogger): void {
  const unwatch = watchCertificates(app.server as unknown as TlsServer, files, log);
  app.addHook("onClose", async () => unwatch());
}

function connectPlugin(options: ServerOptions, authenticator: Authenticator, toCall: ToCall) {
  const responses = new WeakMap<FastifyRequest, FastifyReply["raw"]>();
  return async (app: FastifyInstance): Promise<void> => {
    app.addHook("onRequest", async (request, reply) => {
      responses.set(request, reply.raw);
      abortOnHangUp(reply);
    });
    // Fastify's own parser would read such a body to its end before Connect asks for the key.
    app.removeContentTypeParser("text/plain");
    receiveRequests(app, {
      services: options.services,
      auxiliary: [HealthService, ...reflectionServices],
      bytesMax: options.requestBytesMax,
      admitFor: options.admitBody,
      authenticator,
      trail: options.trail,
    });
    const register = (router: ConnectRouter) => {
      for (const { desc, binaryDesc, implementation } of options.services)
        router.service(binaryDesc ?? desc, implementation as ServiceImpl<DescService>);
      options.health.register(router);
      registerReflection(router, [...options.services.map(({ desc }) => desc), HealthService]);
    };
    await app.register(fastifyConnectPlugin, {
      routes: register,
      requestGate: (context: HandlerContext) => {
        if (context.service.typeName === HealthService.typeName) return;
        // Not only where there is a refusal: a call whose caller was never identified must not run.
        if (context.values.get(principal) === NOBODY)
          throw context.values.get(refusal) ?? unauthenticated("The caller was not identified.");
      },
      contextValues: (request) =>
        callValues(toCall(request, responses.get(request) as FastifyReply["raw"])).set(
          refusal,
          request.refusal,
        ),
      readMaxBytes: options.requestBytesMax,
      // Brotli compresses a message of 32 MiB to 80 bytes; gRPC does not know it.
      acceptCompression: [compressionGzip],
      // No compression of replies: they are small, and gzip adds half a millisecond to a search.
      compressMinBytes: 2 ** 30,
      jsonOptions: { ignoreUnknownFields: false },
      shutdownSignal: options.shutdownSignal,
    });
  };
}

/**
 * Re-encodes the trailer `grpc-message` of Connect, which percent-encodes all punctuation. The gRPC
 * specification asks for this only for "%" and for bytes outside of printable ASCII, and grpc-js leaves
 * encoded punctuation as it is.
 */
function plainGrpcMessage(request: FastifyRequest, reply: FastifyReply): void {
  if (request.headers["content-type"]?.startsWith("application/grpc") !== true) return;
  const addTrailers = reply.raw.addTrailers.bind(reply.raw);
  reply.raw.addTrailers = (trailers) => {
    const all = Object.fromEntries(Object.entries(trailers)) as Record<string, string>;
    const encoded = all["grpc-message"];
    if (encoded !== undefined) all["grpc-message"] = encodeMessage(decodeURIComponent(encoded));
    addTrailers(all);
  };
}

function cors(origins: readonly string[]) {
  return {
    origin: origins.includes("*") ? "*" : [...origins],
    methods: ["GET", "POST", "PUT", "PATCH", "DELETE"],
    // Otherwise the plugin answers an OPTIONS request that is not a preflight with its own 400, not in
    // OpenAI's format.
    strictPreflight: false,
    exposedHeaders: [
      "x-request-id",
      "grpc-status",
      "grpc-message",
      "grpc-status-details-bin",
      "retry-after",
      "retry-after-ms",
      "x-ratelimit-limit-requests",
      "x-ratelimit-remaining-requests",
      "x-ratelimit-reset-requests",
      "x-should-retry",
      "www-authenticate",
      "allow",
      "etag",
      "openai-poll-after-ms",
      "content-disposition",
      "content-range",
    ],
    maxAge: 7200,
  };
}

/** What Node calls a connection or a stream that ended before the body of its request did. */
const HUNG_UP: ReadonlySet<string> = new Set(["ECONNRESET", "ERR_STREAM_PREMATURE_CLOSE"]);

function handled(error: FastifyError, request: FastifyRequest): HttpError {
  if (error instanceof ConnectError) return toHttpError(error);
  // The client has disconnected, or `endSlow` has answered.
  if (HUNG_UP.has(error.code) && (request.raw.destroyed || request.raw.aborted))
    return toHttpError(cancelled(error));
  if (error.code?.startsWith("FST_") && error.statusCode !== undefined && error.statusCode < 500)
    return fromFastify(error, request);
  request.log.error({ err: error }, "failed");
  return toHttpError(toConnectError(error));
}

/**
 * Converts an error of Fastify's own (body too large, unknown content type, URL that cannot be decoded) to
 * OpenAI's format.
 */
function fromFastify(error: FastifyError, request: FastifyRequest): HttpError {
  const status = error.statusCode ?? 400;
  if (status === 413) return toHttpError(messageTooLarge(request.routeOptions.bodyLimit));
  if (status === 415) return unsupportedType("application/json");
  return httpError(status, error.message, { code: "invalid_request" });
}

function noRoute(request: FastifyRequest, routes: readonly RestRoute[]): HttpError {
  const path = request.url.split("?", 1)[0] ?? "/";
  const verbs = routes.filter((route) => route.path.matches(path)).map((route) => route.verb);
  if (verbs.length === 0) return httpError(404, `Invalid URL (${request.method} ${path})`);
  const error = httpError(405, `Not allowed to ${request.method} on ${path}`, { code: "invalid_request" });
  return { ...error, headers: { ...error.headers, allow: [...new Set(verbs)].join(", ") } };
}
