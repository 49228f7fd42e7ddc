import type { DescMethod } from "@bufbuild/protobuf";
import { createHandlerContext, type HandlerContext } from "@connectrpc/connect";
import type { FastifyReply, FastifyRequest } from "fastify";
import { cancelled } from "../../errors.ts";
import { callValues, type ReceivedCall } from "../call.ts";

/** Describes the call that a request makes. */
export type ToCall = (request: FastifyRequest, response: FastifyReply["raw"]) => ReceivedCall;

/** Returns a signal that aborts when the client goes away before its response was sent. */
export function abortOnClose({ raw }: FastifyReply): AbortSignal {
  const gone = new AbortController();
  raw.once("close", () => {
    // Not `writableFinished`: Node's HTTP/2 sets that also when the client resets the stream.
    if (!raw.writableEnded) gone.abort(cancelled());
  });
  return gone.signal;
}

/** Creates the context of a call that an HTTP request makes. `protocolName` is what metrics and the log call the front end. */
export function httpContext(
  method: DescMethod,
  protocolName: string,
  request: FastifyRequest,
  call: ReceivedCall,
  requestSignal: AbortSignal,
): HandlerContext {
  return createHandlerContext({
    service: method.parent,
    method,
    protocolName,
    requestMethod: request.method,
    url: request.url,
    requestSignal,
    contextValues: callValues(call),
  });
}
