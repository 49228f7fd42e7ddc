import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { fromBinary, toBinary, type DescMessage, type Message } from "@bufbuild/protobuf";
import type { ConnectError } from "@connectrpc/connect";
import { cancelled, deadlineExceeded, invalidArgument, unimplemented, unreadable } from "../../errors.ts";
import { identifyCaller } from "../audit.ts";
import { requireBodyRate } from "../body-rate.ts";
import { toConnectError } from "../error.ts";
import { messageTooLarge, type RequestLimits } from "../limits/request-limits.ts";
import { requestId } from "../request-id.ts";
import { setDeadline } from "./deadline.ts";
import { GrpcResponse, PREFIX_BYTES } from "./response.ts";
import { createContext, originOf, type GrpcOptions, type Target } from "./target.ts";

/** Serves a unary call from its HTTP/2 stream. */
export async function serveUnary(
  { method, run, limits, scope }: Target,
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  options: GrpcOptions,
): Promise<void> {
  const { refuseForeign, rate, admitBody } = options;
  const id = requestId(headers["x-request-id"]);
  const origin = originOf(stream, headers, id);
  const response = new GrpcResponse(stream, id);
  const body = Promise.withResolvers<Buffer>();
  // Prevents an unhandled rejection: until the caller is identified, nobody awaits the body.
  body.promise.catch(() => {});
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
    deadline = setDeadline(headers["grpc-timeout"]?.toString(), giveUp);
    const principal = await identifyCaller(options, method, scope, origin, "grpc");
    response.addHeaders(options.authenticator.replyHeaders?.(principal));
    gone.signal.throwIfAborted();
    requireBodyRate(stream, rate, () => giveUp(deadlineExceeded("The request message arrived too slowly.")));
    const reserve = async (bytes: number) => {
      held = await admitBody(principal.caller)(bytes, gone.signal);
      if (isAnswered) held[Symbol.dispose]();
    };
    collectBody(stream, limits.bytesMax, reserve, body);
    const message = readMessage(method.input, await body.promise, limits);
    const context = createContext(method, stream, origin, principal, gone.signal, options);
    const reply = toBinary(method.output, (await run(message as never, context)) as Message);
    isAnswered = true;
    response.end(reply, context.responseHeader);
  } catch (error) {
    isAnswered = true;
    response.fail(toConnectError(error));
  } finally {
    clearTimeout(deadline);
    held?.[Symbol.dispose]();
  }
}

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
  // A stream without a body has ended while the caller was identified.
  if (stream.readableEnded) finish();
  else stream.once("end", finish);
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
