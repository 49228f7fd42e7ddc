import type { ServerResponse } from "node:http";
import { Code, ConnectError } from "@connectrpc/connect";
import type { FastifyReply } from "fastify";

type Done = (error?: Error | null) => void;

/**
 * Converts the write error after a client has disconnected to a ConnectError with code ABORTED. Connect's
 * plugin for Fastify prints the stack of every error during a reply to the console, except errors with code
 * ABORTED. The call log still has one line for the call, with status cancelled.
 *
 * Node never calls back a write to an HTTP/1.1 response whose socket is destroyed and has not emitted "close" yet:
 * the call would never end. So "close" fails every write that is left.
 */
export function abortOnHangUp({ raw, log }: Pick<FastifyReply, "raw" | "log">): void {
  const write = raw.write.bind(raw) as (chunk: unknown, encoding: BufferEncoding, done?: Done) => boolean;
  const waiting = new Set<Done>();
  const writeOrAbort = (chunk: unknown, encoding: BufferEncoding, done?: Done) => {
    // Fastify, which answers some errors itself, does not wait for its write.
    if (typeof done !== "function") return write(chunk, encoding);
    const settle: Done = (error) => {
      if (!waiting.delete(settle)) return;
      if (error === undefined || error === null) return done();
      log.debug({ err: error }, "The client disconnected before the end of the reply");
      done(new ConnectError("the client disconnected", Code.Aborted, undefined, undefined, error));
    };
    waiting.add(settle);
    return write(chunk, encoding, settle);
  };
  raw.write = writeOrAbort as ServerResponse["write"];
  raw.once("close", () => {
    for (const settle of waiting) settle(new Error("The connection was closed."));
  });
}
