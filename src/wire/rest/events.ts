import { Readable } from "node:stream";
import type { DescMessage, Message } from "@bufbuild/protobuf";
import type { FastifyReply, FastifyRequest } from "fastify";
import { toConnectError, toHttpError } from "../error.ts";
import { writeMessage } from "./json-writer.ts";

/** Interval of the comments that keep proxies from closing a silent stream. */
const COMMENT_MS = 15_000;

/**
 * Sends messages as server-sent events: `data` with the JSON of each; an error after the first message as an event
 * named `error`, with the body that an error reply has. Comments keep a silent stream open.
 */
export async function sendEvents(
  output: DescMessage,
  replies: AsyncIterable<Message>,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const messages = replies[Symbol.asyncIterator]();
  // Awaited before the status is sent, so that an error before it becomes an error response.
  const first = await messages.next();
  void reply.headers({
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    // nginx passes the events on at once.
    "x-accel-buffering": "no",
  });
  if (request.method !== "HEAD") return reply.send(Readable.from(writeEvents(output, messages, first)));
  await messages.return?.();
  return reply.send(Readable.from([]));
}

async function* writeEvents(
  output: DescMessage,
  messages: AsyncIterator<Message>,
  first: IteratorResult<Message>,
): AsyncGenerator<string, void> {
  let next = Promise.resolve(first);
  try {
    for (;;) {
      const result = await withinInterval(next);
      if (result === undefined) {
        yield ": still here\n\n";
        continue;
      }
      if (result.done === true) return;
      yield `data: ${JSON.stringify(writeMessage(output, result.value))}\n\n`;
      next = messages.next();
      // A reader that left before the next message asks for it no more.
      next.catch(() => {});
    }
  } catch (error) {
    yield `event: error\ndata: ${JSON.stringify(toHttpError(toConnectError(error)).body)}\n\n`;
  } finally {
    // Not awaited: a generator returns only after its pending read.
    void messages.return?.().catch(() => {});
  }
}

/** Waits for the next message; undefined: none came within the interval. */
async function withinInterval<T>(next: Promise<T>): Promise<T | undefined> {
  const silence = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => silence.resolve(undefined), COMMENT_MS);
  try {
    return await Promise.race([next, silence.promise]);
  } finally {
    clearTimeout(timer);
  }
}
