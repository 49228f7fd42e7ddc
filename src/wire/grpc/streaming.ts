import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { fromBinary, toBinary, type Message } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import { cancelled, invalidArgument, unreadable } from "../../errors.ts";
import { identifyCaller } from "../audit.ts";
import { toConnectError } from "../error.ts";
import { requestId } from "../request-id.ts";
import type { Admit } from "../service.ts";
import { COMPRESSED, readFrames } from "./admission.ts";
import { setDeadline } from "./deadline.ts";
import { GrpcResponse } from "./response.ts";
import { StreamChunks } from "./stream-chunks.ts";
import { createContext, originOf, type GrpcOptions, type Target } from "./target.ts";

/** Serves a stream of a client's messages, with one reply or several, from its HTTP/2 stream. */
export async function serveStreaming(
  target: Target,
  stream: ServerHttp2Stream,
  headers: IncomingHttpHeaders,
  options: GrpcOptions,
): Promise<void> {
  const { method, run, scope } = target;
  const { refuseForeign } = options;
  const id = requestId(headers["x-request-id"]);
  const origin = originOf(stream, headers, id);
  const response = new GrpcResponse(stream, id);
  const gone = new AbortController();
  stream.once("close", () => gone.abort(cancelled()));
  // Without a listener a stream error, such as a reset, would be an uncaught exception; "close" follows
  // anyway.
  stream.on("error", () => {});
  let deadline: NodeJS.Timeout | undefined;
  let chunks: StreamChunks | undefined;
  try {
    refuseForeign(headers);
    deadline = setDeadline(headers["grpc-timeout"]?.toString(), (error) => gone.abort(error));
    const principal = await identifyCaller(options, method, scope, origin, "grpc");
    response.addHeaders(options.authenticator.replyHeaders?.(principal));
    gone.signal.throwIfAborted();
    const admit = target.admit(principal.caller);
    chunks = new StreamChunks(stream);
    const context = createContext(method, stream, origin, principal, gone.signal, options);
    const answer = run(readMessages(target, chunks, admit, gone.signal) as never, context);
    if (method.methodKind === "client_streaming") {
      const reply = toBinary(method.output, (await answer) as Message);
      response.end(reply, context.responseHeader);
    } else {
      await sendReplies(response, target, answer as AsyncIterable<Message>, context);
    }
  } catch (error) {
    response.fail(toConnectError(error));
  } finally {
    clearTimeout(deadline);
    // Also gives back the memory of a message that an implementation has not read to its end.
    gone.abort(cancelled());
    await chunks?.return();
  }
}

/** Decodes the messages of a stream. Errors have the same codes as in other gRPC servers. */
async function* readMessages(
  { method, limits }: Target,
  chunks: StreamChunks,
  admit: Admit,
  signal: AbortSignal,
): AsyncGenerator<Message> {
  let held: Disposable | undefined;
  const release = () => held?.[Symbol.dispose]();
  signal.addEventListener("abort", release, { once: true });
  const frames = readFrames(chunks, {
    bytesMax: limits.bytesMax,
    opening: method.input.fields[0]?.name ?? "",
    async admit(bytes) {
      held = await admit(bytes, signal);
      if (signal.aborted) release();
      return held;
    },
    async unpack(flags, message) {
      if ((flags & COMPRESSED) !== 0)
        throw unreadable("The message is compressed, but 'grpc-encoding' names no compression.");
      limits.check(message, "binary");
      return { flags, message };
    },
  });
  for await (const { body, isComplete } of frames) {
    signal.throwIfAborted();
    if (!isComplete) {
      throw invalidArgument(undefined, "The message is shorter than its length prefix.", "INVALID_REQUEST");
    }
    let message: Message;
    try {
      message = fromBinary(method.input, body);
    } catch (error) {
      throw unreadable(`parse binary: ${(error as Error).message}`);
    }
    yield message;
  }
  signal.throwIfAborted();
}

async function sendReplies(
  response: GrpcResponse,
  { method }: Target,
  replies: AsyncIterable<Message>,
  { signal, responseHeader }: HandlerContext,
): Promise<void> {
  const iterator = replies[Symbol.asyncIterator]();
  for (;;) {
    const next = await iterator.next();
    if (next.done === true) return response.finish(responseHeader);
    try {
      signal.throwIfAborted();
      await response.write(toBinary(method.output, next.value), responseHeader, signal);
    } catch (error) {
      // Thrown at the implementation's `yield`: the reply could not be sent.
      await iterator.throw?.(error);
      throw error;
    }
  }
}
