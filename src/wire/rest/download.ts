import { Readable } from "node:stream";
import { Code, ConnectError } from "@connectrpc/connect";
import type { FastifyReply, FastifyRequest } from "fastify";
import type {
  File,
  GetFileContentRequest,
  GetFileContentResponse,
} from "../../../gen/pgquiver/v1/files_pb.ts";
import { readRange } from "../../api/byte-range.ts";

/**
 * Takes the request's `Range` header into the message: one range of bytes; several, other units and what cannot be read
 * are ignored, as RFC 9110, 14.2 allows, and so is any with an `If-Range` that is not the file's own tag.
 */
export function applyRange(request: FastifyRequest, message: GetFileContentRequest): void {
  const { range, "if-range": condition } = request.headers;
  if (condition !== undefined && condition !== entityTag(message.fileId)) return;
  const [, first = "", last = ""] = /^bytes=(\d{0,15})-(\d{0,15})$/i.exec(range ?? "") ?? [];
  if (first === "" && last === "") return;
  if (first === "") {
    // The last 0 bytes are never there; those before the file's first are not missed.
    message.offset = last === "0" ? BigInt(Number.MAX_SAFE_INTEGER) : -BigInt(last);
    return;
  }
  if (last !== "" && BigInt(last) < BigInt(first)) return;
  message.offset = BigInt(first);
  if (last !== "") message.length = BigInt(last) - BigInt(first) + 1n;
}

/** Sends a file's bytes as the body, with the headers that belong to them. */
export async function sendContent(
  message: GetFileContentRequest,
  content: AsyncIterable<GetFileContentResponse>,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const messages = content[Symbol.asyncIterator]();
  const head: IteratorResult<GetFileContentResponse, undefined> = await messages.next();
  const file = head.value?.file as File;
  const bytes = Number(file.bytes);
  // An error before the first byte is an answer of its own; a later one cuts the connection.
  const first = await messages.next().catch((error: unknown) => {
    if (error instanceof ConnectError && error.code === Code.OutOfRange)
      reply.header("content-range", `bytes */${bytes}`);
    throw error;
  });
  const { offset, length } = readRange(bytes, message);
  if (length > 0 && (message.offset !== undefined || message.length !== undefined))
    reply.code(206).header("content-range", `bytes ${offset}-${offset + length - 1}/${bytes}`);
  reply.headers({
    "content-type": "application/octet-stream",
    "content-disposition": contentDisposition(file.filename),
    "content-length": length,
    "accept-ranges": "bytes",
    etag: entityTag(file.id),
    "x-content-type-options": "nosniff",
  });
  if (request.method === "HEAD") {
    await messages.return?.();
    // Fastify keeps the length given where what it drops is a stream.
    return reply.send(Readable.from([]));
  }
  const body = (async function* () {
    try {
      for (let next = first; next.done !== true; next = await messages.next()) yield next.value.data;
    } finally {
      await messages.return?.();
    }
  })();
  return reply.send(Readable.from(body, { objectMode: false }));
}

/** A file never changes, and no other has its id. */
function entityTag(id: string): string {
  return `"${id}"`;
}

/** The name in ASCII and, as RFC 6266 and RFC 8187 want it, whole. */
function contentDisposition(filename: string): string {
  const ascii = filename.replaceAll(/[^ -~]|["\\%]/g, "_");
  const whole = encodeURIComponent(filename).replaceAll(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16)}`,
  );
  return `attachment; filename="${ascii}"; filename*=UTF-8''${whole}`;
}
