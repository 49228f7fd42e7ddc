import type { IncomingHttpHeaders } from "node:http";
import type { ServerHttp2Stream } from "node:http2";
import { Readable } from "node:stream";
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { createContextKey } from "@connectrpc/connect";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { Health as HealthService } from "../../../gen/health/v1/health_pb.ts";
import type { Scope } from "../../../gen/pgquiver/v1/options_pb.ts";
import { scopeOf } from "../../api/scope.ts";
import { cancelled, unreadable } from "../../errors.ts";
import { identifyCaller, originOf, type AuditTrail } from "../audit.ts";
import type { Authenticator } from "../caller/auth.ts";
import { dropBody } from "../body-rate.ts";
import { BodyMemory } from "../body-memory.ts";
import { expandedBytesMax, gunzipMessage } from "../inflate.ts";
import { messageTooLarge, requestLimits, type RequestLimits } from "../limits/request-limits.ts";
import { refuseHalfPairs } from "../limits/surrogates.ts";
import { setReplyHeaders } from "../caller/rates.ts";
import { endUploadAfterAnswer } from "../rest/rest.ts";
import type { Admit, AdmitFor, Service } from "../service.ts";
import { admitMessages, COMPRESSED, type MessageRules } from "./admission.ts";

/** How requests are received. */
export interface RequestOptions {
  services: readonly Service[];
  /** Services of gRPC itself, such as health, whose messages are short. */
  auxiliary: readonly DescService[];
  /** Maximum size of a message, in bytes. */
  bytesMax: number;
  /** Reserves memory for the messages of all RPCs but those of services with an `admit` of their own. */
  admitFor: AdmitFor;
  authenticator: Authenticator;
  trail: AuditTrail;
}

/** Why the caller of a request is refused, which Connect answers in the protocol of the request. */
export const refusal = createContextKey<Error | undefined>(undefined);

declare module "fastify" {
  interface FastifyRequest {
    /** See `refusal`. */
    refusal?: Error;
  }
}

/** Maximum size of a message of an auxiliary service. */
const AUXILIARY_BYTES_MAX = 64 * 1024;

/** An RPC as its requests are received. */
interface Route {
  limits: RequestLimits;
  admitFor: AdmitFor;
  /** First field of a stream's first message, which has to be set; undefined where no message opens the stream. */
  opening: string | undefined;
  /** Whether the client sends one message. */
  isUnary: boolean;
  /** Whether the RPC needs no key. */
  isOpen: boolean;
  /** What the RPC needs of a key; undefined: any key will do. */
  scope: Scope | undefined;
  /** Undefined for an RPC of gRPC itself. */
  method: DescMethod | undefined;
}

/**
 * Receives the requests of Connect's routes, for gRPC, gRPC-Web and Connect: reads a message only after memory was
 * granted for it (backpressure), decompresses it, and checks it before Connect decodes it. Nothing is read of a request
 * that Connect refuses by its headers, for example for its key. Must be called before Connect's routes are registered.
 */
export function receiveRequests(app: FastifyInstance, options: RequestOptions): void {
  const routes = createRoutes(options);
  app.addHook("preHandler", async (request, reply) => {
    const route = routes.get(request.routeOptions.url ?? "");
    const framing = readFraming(request.headers["content-type"]);
    if (route === undefined) return;
    if (!route.isOpen) await identify(request, reply, options, route);
    if (framing === undefined || request.refusal !== undefined) {
      // Connect answers 415, 401 or 403 without reading the body; if it ever read one, the body would be unchecked.
      request.body = Readable.from([]);
      dropBody(request.raw);
      return;
    }
    // The client may be gone already: a "close" event before Connect subscribes is lost, and the call would
    // hang.
    const { stream } = request.raw as { stream?: ServerHttp2Stream };
    if (stream?.closed ?? request.raw.aborted) throw cancelled();
    const isGzip = takeGzip(request.raw.headers, framing.encodingHeader);
    // Connect reads `request.body` if it is set, else the raw request.
    const admit = route.admitFor(request.principal.caller);
    request.body = receive(route, admit, framing, isGzip, request, reply);
  });
}

async function identify(
  request: FastifyRequest,
  reply: FastifyReply,
  options: RequestOptions,
  { method, scope }: Route,
): Promise<void> {
  const { protocol = "connect" } = readFraming(request.headers["content-type"]) ?? {};
  try {
    request.principal = await identifyCaller(options, method, scope, originOf(request), protocol);
    setReplyHeaders(reply, options.authenticator, request.principal);
  } catch (error) {
    request.refusal = error as Error;
  }
}

function createRoutes({ services, auxiliary, bytesMax, admitFor }: RequestOptions): Map<string, Route> {
  const routes = new Map<string, Route>();
  const add = (desc: DescService, max: number, isOwn: boolean, own?: AdmitFor) => {
    for (const method of desc.methods) {
      const isUnary = method.methodKind === "unary" || method.methodKind === "server_streaming";
      routes.set(`/${desc.typeName}/${method.name}`, {
        limits: requestLimits(method, max),
        admitFor: isUnary ? admitFor : (own ?? admitFor),
        opening: isUnary || own === undefined ? undefined : (method.input.fields[0]?.name ?? ""),
        isUnary,
        isOpen: desc.typeName === HealthService.typeName,
        scope: isOwn ? scopeOf(method) : undefined,
        method: isOwn ? method : undefined,
      });
    }
  };
  for (const { desc, binaryDesc, admit: own } of services) add(binaryDesc ?? desc, bytesMax, true, own);
  for (const desc of auxiliary) add(desc, AUXILIARY_BYTES_MAX, false);
  return routes;
}

/** How messages are written into the body of a request. */
interface Framing {
  /** Whether each message has a prefix with its length; otherwise the body is the message. */
  isPrefixed: boolean;
  form: "json" | "binary";
  /** The header that names the compression. */
  encodingHeader: string;
  protocol: "grpc" | "grpc-web" | "connect";
}

/** Undefined for content types that Connect refuses. */
function readFraming(contentType = ""): Framing | undefined {
  const [, protocol, codec] =
    /^application\/(?:(connect|grpc|grpc-web)\+)?(json|proto)(?:\s*;.*)?$/i.exec(contentType) ??
    /^application\/(grpc|grpc-web)(?:\s*;.*)?$/i.exec(contentType) ??
    [];
  if (protocol === undefined && codec === undefined) return undefined;
  const form = codec?.toLowerCase() === "json" ? "json" : "binary";
  const name = (protocol?.toLowerCase() ?? "connect") as Framing["protocol"];
  if (protocol === undefined)
    return { isPrefixed: false, form, encodingHeader: "content-encoding", protocol: name };
  const encodingHeader = name === "connect" ? "connect-content-encoding" : "grpc-encoding";
  return { isPrefixed: true, form, encodingHeader, protocol: name };
}

/**
 * Whether messages are compressed with gzip. Connect then must not decompress them again, and must not expect the length
 * of the compressed body.
 */
function takeGzip(headers: IncomingHttpHeaders, name: string): boolean {
  if (headers[name] !== "gzip") return false;
  delete headers[name];
  delete headers["content-length"];
  return true;
}

function receive(
  { limits, opening, isUnary }: Route,
  admit: Admit,
  { isPrefixed, form }: Framing,
  isGzip: boolean,
  { raw }: FastifyRequest,
  reply: FastifyReply,
): AsyncIterable<Uint8Array> {
  const { bytesMax, check } = limits;
  const unpack = async (flags: number, message: Buffer) => {
    const isPacked = (flags & COMPRESSED) !== 0;
    if (isPacked && !isGzip)
      throw unreadable("The message is compressed, but no header names the compression.");
    const plain = isPacked ? await gunzipMessage(message, bytesMax) : message;
    if (form === "json") refuseHalfPairs(plain);
    check(plain, form);
    return { flags: flags & ~COMPRESSED, message: plain };
  };
  const chunks = raw.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>;
  if (!isUnary) {
    // The RPC may answer before the end of its stream, and Connect then leaves the rest unread: over HTTP/1.1 the next
    // request of the connection would never be read.
    const isPrepared = raw.httpVersionMajor === 1;
    if (isPrepared) endUploadAfterAnswer(raw, reply.raw);
    const rules = { bytesMax, admit: admitUntilRead(raw, admit), unpack, opening };
    return endingUpload(admitMessages(chunks, rules), raw, reply, isPrepared);
  }
  const memory = new BodyMemory(admit, reply.raw);
  if (!isPrefixed) return endingUpload(readBody(), raw, reply);
  // Not returned when the message is read, but at the end of the call: until then the message exists.
  const admitAll = async (bytes: number) => {
    await memory.reserve(bytes);
    return { [Symbol.dispose]: () => {} };
  };
  return endingUpload(admitMessages(chunks, { bytesMax, admit: admitAll, unpack, isUnary }), raw, reply);

  async function* readBody(): AsyncGenerator<Uint8Array> {
    const length = raw.headers["content-length"];
    if (length !== undefined) {
      if (Number(length) > bytesMax) throw messageTooLarge(bytesMax, Number(length));
      await memory.reserve(Number(length));
    }
    const bytes = await collect(memory.meter(chunks, bytesMax), bytesMax);
    if (isGzip) await memory.reserve(expandedBytesMax(bytes.length, bytesMax));
    yield (await unpack(isGzip ? COMPRESSED : 0, bytes)).message;
  }
}

/** Reserves memory for a message of a stream until the next is asked for, or the client is gone. */
function admitUntilRead(request: FastifyRequest["raw"], admit: Admit): MessageRules["admit"] {
  const gone = new AbortController();
  let admitted: Disposable | undefined;
  // A handler that ends early leaves the stream unread, so "close" must return the memory of the last message.
  request.once("close", () => {
    gone.abort();
    admitted?.[Symbol.dispose]();
  });
  return async (bytes) => {
    admitted = await admit(bytes, gone.signal);
    if (gone.signal.aborted) admitted[Symbol.dispose]();
    return admitted;
  };
}

/** Collects a body; throws when it exceeds `bytesMax`. */
async function collect(chunks: AsyncIterable<Buffer>, bytesMax: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    parts.push(chunk);
    bytes += chunk.length;
    if (bytes > bytesMax) throw messageTooLarge(bytesMax);
  }
  return parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts, bytes);
}

/**
 * Ends the client's side of an upload that is answered before its end: by an error of a message, or by Connect, which
 * stops reading at an envelope that it cannot split. `isPrepared`: the response was prepared for that already.
 */
async function* endingUpload(
  messages: AsyncIterable<Uint8Array>,
  request: FastifyRequest["raw"],
  reply: FastifyReply,
  isPrepared = false,
): AsyncGenerator<Uint8Array> {
  let hasEnded = false;
  try {
    yield* messages;
    hasEnded = true;
  } finally {
    if (!hasEnded) {
      // Bytes that nobody reads keep a stream open: at 100 of them Node answers every later stream of the connection with
      // ENHANCE_YOUR_CALM.
      dropBody(request);
      if (!isPrepared) endUploadAfterAnswer(request, reply.raw);
    }
  }
}
