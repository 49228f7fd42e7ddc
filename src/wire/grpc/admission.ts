import type { ServerHttp2Stream } from "node:http2";
import type { FastifyInstance } from "fastify";
import { cancelled, missingParameter } from "../../errors.ts";
import type { Service, Admit } from "../service.ts";

/** Bytes of the first message of a stream, which says what it is about and carries no data. */
const OPENING_BYTES_MAX = 64 * 1024;

/** "Compressed-Flag", then "Message-Length": https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */
const ENVELOPE_BYTES = 5;

/**
 * Makes streams of services with `admit` wait for memory before a message is read, in all protocols
 * of Connect: their streams frame messages alike. To be called before Connect's own routes.
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
    // Neither Connect nor a reader of the body would notice an end that was before they look.
    const { stream } = request.raw as { stream?: ServerHttp2Stream };
    if (stream?.closed ?? request.raw.aborted) throw cancelled();
    const gone = new AbortController();
    let admitted: Disposable | undefined;
    // A service that ends early leaves the messages where they are.
    const release = () => admitted?.[Symbol.dispose]();
    request.raw.once("close", () => {
      gone.abort();
      release();
    });
    // Connect reads the request's body where there is one, else the request itself.
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
 * Passes framed messages on, each as soon as it is admitted with the length it announces; a compressed
 * one as the largest it can become. It is admitted until more is asked for: then its reader has
 * taken it in. Of what is too large only the announcement is passed on, for Connect to refuse it.
 * A first message that is large cannot be the one that has the field `opening`, and is refused.
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
