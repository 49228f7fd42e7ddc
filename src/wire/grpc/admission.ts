import type { ServerHttp2Stream } from "node:http2";
import type { FastifyInstance } from "fastify";
import { cancelled, missingParameter } from "../../errors.ts";
import type { Service, Admit } from "../service.ts";

/** Maximum size of a stream's first message in bytes: the message opens the stream and carries no data. */
const OPENING_BYTES_MAX = 64 * 1024;

/**
 * Bytes of the prefix of a gRPC message: 1 of "Compressed-Flag", 4 of "Message-Length", see
 * https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
 */
const ENVELOPE_BYTES = 5;

/**
 * Applies backpressure to client streams of the services with `admit`: a message is read from the socket only
 * after memory was granted for it. Works for gRPC, gRPC-Web and Connect, whose streams share the framing.
 * Must be called before Connect's routes are registered. `bytesMax` is the maximum size of a message.
 */
export function admitStreams(app: FastifyInstance, services: readonly Service[], bytesMax: number): void {
  const routes = new Map<string, { admit: Admit; opening: string }>();
  for (const { desc, admit } of services) {
    if (admit === undefined) continue;
    for (const { methodKind, name, input } of desc.methods) {
      if (methodKind === "client_streaming" || methodKind === "bidi_streaming")
        routes.set(`/${desc.typeName}/${name}`, { admit, opening: input.fields[0]?.name ?? "" });
    }
  }
  app.addHook("preHandler", async (request) => {
    const route = routes.get(request.routeOptions.url ?? "");
    if (route === undefined) return;
    // The client may be gone already: a "close" event before Connect subscribes is lost, and the call would
    // hang.
    const { stream } = request.raw as { stream?: ServerHttp2Stream };
    if (stream?.closed ?? request.raw.aborted) throw cancelled();
    const gone = new AbortController();
    let admitted: Disposable | undefined;
    // A handler that ends early leaves the stream unread, so "close" must return the memory of the last
    // message.
    const release = () => admitted?.[Symbol.dispose]();
    request.raw.once("close", () => {
      gone.abort();
      release();
    });
    // Connect reads `request.body` if it is set, else the raw request.
    request.body = admitMessages(
      request.raw,
      bytesMax,
      async (bytes) => {
        admitted = await route.admit(bytes, gone.signal);
        if (gone.signal.aborted) release();
        return admitted;
      },
      route.opening,
    );
  });
}

/**
 * Passes length-prefixed messages on, each after `admit` has granted memory for the length in its prefix; for
 * a compressed message `bytesMax`, the largest size after decompression. The memory is returned when the
 * consumer asks for the next chunk, because the message is consumed then. A message longer than `bytesMax` is
 * not admitted: Connect refuses it by its prefix. The first message needs no memory, but when it is longer
 * than 64 KiB it cannot be the opening message: throws INVALID_ARGUMENT, naming the missing field `opening`.
 */
export async function* admitMessages(
  chunks: AsyncIterable<Buffer>,
  bytesMax: number,
  admit: (bytes: number) => Promise<Disposable>,
  opening = "open",
): AsyncGenerator<Uint8Array> {
  let head: Buffer = Buffer.alloc(0);
  let left = 0;
  let isFirst = true;
  let admitted: Disposable | undefined;
  const release = () => {
    admitted?.[Symbol.dispose]();
    admitted = undefined;
  };
  try {
    for await (const chunk of chunks) {
      for (let rest = chunk; rest.length > 0;) {
        if (left === 0) {
          const missing = ENVELOPE_BYTES - head.length;
          head = Buffer.concat([head, rest.subarray(0, missing)]);
          rest = rest.subarray(missing);
          if (head.length < ENVELOPE_BYTES) break;
          left = head.readUInt32BE(1);
          if (isFirst && left > OPENING_BYTES_MAX) throw missingParameter(opening);
          const bytes = head[0] === 0 ? left : bytesMax;
          if (!isFirst && left <= bytesMax) admitted = await admit(bytes);
          isFirst = false;
          yield head;
          if (left === 0) release();
          head = Buffer.alloc(0);
          continue;
        }
        const part = rest.subarray(0, left);
        left -= part.length;
        rest = rest.subarray(part.length);
        yield part;
        if (left === 0) release();
      }
    }
    if (head.length > 0) yield head;
  } finally {
    release();
  }
}
