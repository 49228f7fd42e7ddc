import type { IncomingHttpHeaders, OutgoingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { fromBinary, toBinary, type DescMessage, type DescMethod, type Message } from "@bufbuild/protobuf";
import { createHandlerContext, type ConnectError } from "@connectrpc/connect";
import { setTrailerStatus } from "@connectrpc/connect/protocol-grpc";
import type { FastifyBaseLogger } from "fastify";
import { cancelled, deadlineExceeded, invalidArgument, unimplemented, unreadable } from "../../errors.ts";
import type { Authenticator } from "../auth.ts";
import { requireBodyRate, type BodyRate } from "../body-rate.ts";
import { callValues } from "../call.ts";
import { toConnectError } from "../error.ts";
import { readGrpcTimeout, TIMER_MS_MAX } from "../headers.ts";
import { messageTooLarge, requestLimits, type RequestLimits } from "../limits/request-limits.ts";
import { endUpload, type ServeStream } from "../port.ts";
import type { ReplyBudget } from "../reply-budget.ts";
import { requestId } from "../request-id.ts";
import type { AdmitFor, Implementation, Service } from "../service.ts";
import type { RefuseForeign } from "../web-pages.ts";

/** Settings of the unary gRPC server. */
export interface GrpcOptions {
  services: readonly Service[];
  authenticator: Authenticator;
  refuseForeign: RefuseForeign;
  /** The minimum rate of request bodies. */
  rate: BodyRate;
  /** Maximum size of a request message, in bytes. */
  requestBytesMax: number;
  /** Reserves memory for a request message. */
  admitBody: AdmitFor;
  /** The replies that are not sent yet. */
  replies: ReplyBudget;
  /** Parent of the calls' loggers. */
  log: FastifyBaseLogger;
}

/** A unary RPC and its implementation. */
interface Target {
  method: DescMethod;
  run: Implementation[string];
  limits: RequestLimits;
}

/**
 * A fast path for unary gRPC calls in binary without compression, as nearly all gRPC clients send them:
 * serves the call directly from the HTTP/2 stream. Declines everything else, such as streaming RPCs, JSON and
 * compressed requests, which Connect then serves. Connect's handler takes half a millisecond more CPU time
 * per call, see bench/README.md. Protocol: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
 */
export function createGrpc(options: GrpcOptions): ServeStream {
  const targets = new Map<string, Target>();
  for (const { desc, binaryDesc = desc, implementation } of options.services) {
    for (const method of binaryDesc.methods) {
      const run = implementation[method.localName];
      if (method.methodKind !== "unary" || run === undefined) continue;
      const limits = requestLimits(method, options.requestBytesMax);
      targets.set(`/${desc.typeName}/${method.name}`, { method, run, limits });
    }
  }
  return (stream, headers) => {
    const target = isPlain(headers) ? targets.get(headers[":path"] ?? "") : undefined;
    if (target === undefined) return false;
    serve(target, stream, headers, options).catch((error: unknown) => {
      options.log.error({ err: error }, "failed");
      stream.destroy();
    });
    return true;
  };
}

/** Whether a request is gRPC with binary protobuf, without compression, and not waiting for `100 Continue`. */
function isPlain(headers: IncomingHttpHeaders): boolean {
  return (
    headers[":method"] === "POST" &&
    headers.expect === undefined &&
    /^application\/grpc(?:\+proto)?$/i.test(headers["content-type"] ?? "") &&
    /^(?:identity)?$/.test(headers["grpc-encoding"]?.toString() ?? "")
  );
}

async function serve(
  { method, run, limits }: Target,
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  { authenticator, refuseForeign, rate, admitBody, replies, log }: GrpcOptions,
): Promise<void> {
  const id = requestId(headers["x-request-id"]);
  const body = Promise.withResolvers<Buffer>();
  const gone = new AbortController();
  let isAnswered = false;
  const giveUp = (error: ConnectError) => {
    gone.abort(error);
    body.reject(error);
  };
  stream.once("close", () => {
    if (!isAnswered) giveUp(cancelled());
  });
  // Without a listener a stream error, such as a reset, would be an uncaught exception; "close" follows
  // anyway.
  stream.on("error", () => {});
  let deadline: NodeJS.Timeout | undefined;
  let held: Disposable | undefined;
  try {
    refuseForeign(headers);
    authenticator.check(headers.authorization);
    const caller = authenticator.callerOf(headers.authorization);
    requireBodyRate(stream, rate, () => giveUp(deadlineExceeded("The request message arrived too slowly.")));
    deadline = setDeadline(headers["grpc-timeout"]?.toString(), giveUp);
    const reserve = async (bytes: number) => {
      held = await admitBody(caller)(bytes, gone.signal);
      if (isAnswered) held[Symbol.dispose]();
    };
    collectBody(stream, limits.bytesMax, reserve, body);
    const message = readMessage(method.input, await body.promise, limits);
    const context = createHandlerContext({
      service: method.parent,
      method,
      protocolName: "grpc",
      requestMethod: "POST",
      url: headers[":path"] ?? "",
      requestSignal: gone.signal,
      contextValues: callValues({
        log: log.child({ requestId: id }),
        headers,
        callerName: caller,
        holdReply: (bytes) => replies.hold(stream, bytes),
      }),
    });
    const reply = toBinary(method.output, (await run(message as never, context)) as Message);
    isAnswered = true;
    sendReply(stream, { ...responseHeaders(id), ...Object.fromEntries(context.responseHeader) }, reply);
  } catch (error) {
    isAnswered = true;
    sendError(stream, id, toConnectError(error));
  } finally {
    clearTimeout(deadline);
    held?.[Symbol.dispose]();
  }
}

function setDeadline(
  header: string | undefined,
  giveUp: (error: ConnectError) => void,
): NodeJS.Timeout | undefined {
  if (header === undefined) return undefined;
  const timeoutMs = readGrpcTimeout(header);
  if (timeoutMs === undefined) {
    const message = `Invalid 'grpc-timeout': expected up to 8 digits and a unit, but got '${header}'.`;
    throw invalidArgument("grpc-timeout", message, "INVALID_REQUEST");
  }
  return setTimeout(
    () => giveUp(deadlineExceeded("The call exceeded its deadline.")),
    Math.min(timeoutMs, TIMER_MS_MAX),
  );
}

/** Bytes of the prefix of a gRPC message: 1 of "Compressed-Flag", 4 of "Message-Length". */
const PREFIX_BYTES = 5;

/**
 * Collects a request body until its end, or until it exceeds the first message; rejects a message over
 * `bytesMax`. A message that does not arrive in one chunk is read on when `reserve` has reserved memory for it.
 */
function collectBody(
  stream: ServerHttp2Stream,
  bytesMax: number,
  reserve: (bytes: number) => Promise<void>,
  { resolve, reject }: PromiseWithResolvers<Buffer>,
): void {
  const chunks: Buffer[] = [];
  let bytes = 0;
  let frameBytes: number | undefined;
  stream.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    bytes += chunk.length;
    if (frameBytes === undefined && bytes >= PREFIX_BYTES) {
      const messageBytes = (chunks.length === 1 ? chunk : Buffer.concat(chunks)).readUInt32BE(1);
      frameBytes = PREFIX_BYTES + messageBytes;
      if (messageBytes > bytesMax) {
        reject(messageTooLarge(bytesMax, messageBytes));
      } else if (bytes < frameBytes) {
        stream.pause();
        reserve(messageBytes).then(() => stream.resume(), reject);
      }
    }
    if (frameBytes !== undefined && bytes > frameBytes) finish();
  });
  const finish = () => {
    stream.removeAllListeners("data").resume();
    resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks));
  };
  stream.once("end", finish);
}

/** Parses the single message of a request body. Errors have the same codes as in other gRPC servers. */
function readMessage(desc: DescMessage, body: Buffer, { check }: RequestLimits): Message {
  if (body.length === 0) throw unimplemented("The call has no message.");
  const end = body.length < PREFIX_BYTES ? Infinity : PREFIX_BYTES + body.readUInt32BE(1);
  if (body.length < end) {
    throw invalidArgument(undefined, "The message is shorter than its length prefix.", "INVALID_REQUEST");
  }
  if (body[0] !== 0) throw unreadable("The message is compressed, but 'grpc-encoding' names no compression.");
  const bytes = body.subarray(PREFIX_BYTES, end);
  check(bytes, "binary");
  let message: Message;
  try {
    message = fromBinary(desc, bytes);
  } catch (error) {
    throw unreadable(`parse binary: ${(error as Error).message}`);
  }
  if (body.length > end) throw unimplemented("The call has more than one message.");
  return message;
}

/**
 * Sends headers and message in one write. The trailers follow in a write of their own, 10 bytes: Node hands them to
 * nghttp2 in a later turn of the event loop.
 */
function sendReply(stream: ServerHttp2Stream, headers: OutgoingHttpHeaders, reply: Uint8Array): void {
  if (stream.closed || stream.destroyed) return;
  const frame = Buffer.allocUnsafe(PREFIX_BYTES + reply.length);
  frame.writeUInt8(0);
  frame.writeUInt32BE(reply.length, 1);
  frame.set(reply, PREFIX_BYTES);
  stream.once("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.respond(headers, { waitForTrailers: true });
  stream.end(frame);
}

/**
 * Sends an error as a "Trailers-Only" response, even if the client is still uploading; the rest is discarded.
 */
function sendError(stream: ServerHttp2Stream, id: string, error: ConnectError): void {
  if (stream.closed || stream.destroyed) return;
  const status = Object.fromEntries(setTrailerStatus(new Headers(), error));
  const message = encodeMessage(error.rawMessage);
  stream.respond({ ...responseHeaders(id), ...status, "grpc-message": message }, { endStream: true });
  stream.removeAllListeners("data").resume();
  setImmediate(endUpload, stream);
}

function responseHeaders(id: string): OutgoingHttpHeaders {
  return { ":status": 200, "content-type": "application/grpc+proto", "x-request-id": id };
}

/**
 * Percent-encodes "%" and everything except printable ASCII, as gRPC requires for the header `grpc-message`.
 */
export function encodeMessage(message: string): string {
  return message.toWellFormed().replace(/[^ -$&-~]+/gu, encodeURIComponent);
}
