import type { ServerResponse } from "node:http";
import { Code, ConnectError } from "@connectrpc/connect";
import type { FastifyReply } from "fastify";

type Done = (error?: Error | null) => void;

/**
 * Makes a write that fails because the caller hung up an error with code ABORTED. Connect's plugin for Fastify prints
 * the stack of every error of a reply to the console, except for that code. The call itself is logged as cancelled, in
 * one line, like every call.
 */
export function abortOnHangUp({ raw, log }: Pick<FastifyReply, "raw" | "log">): void {
  const write = raw.write.bind(raw) as (chunk: unknown, encoding: BufferEncoding, done: Done) => boolean;
  const writeOrAbort = (chunk: unknown, encoding: BufferEncoding, done: Done) =>
    write(chunk, encoding, (error) => {
      if (error === undefined || error === null) return done();
      log.debug({ err: error }, "The caller hung up before the end of the reply");
      done(new ConnectError("the caller hung up", Code.Aborted, undefined, undefined, error));
    });
  raw.write = writeOrAbort as ServerResponse["write"];
}
