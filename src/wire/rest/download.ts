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
 * Copies the `Range` header, a single byte range, into the message. Ignored, as RFC 9110, 14.2 allows, are
 * several ranges, other units, a malformed header, and any range whose `If-Range` is not the file's entity
 * tag.
 */
export function applyRange(request: FastifyRequest, message: GetFileContentRequest): void {
  const { range, "if-range": condition } = request.headers;
  if (condition !== undefined && condition !== entityTag(message.fileId)) return;
  const [, first = "", last = ""] = /^bytes=(\d{0,15})-(\d{0,15})$/i.exec(range ?? "") ?? [];
  if (first === "" && last === "") return;
  if (first === "") {
    // A suffix range: `bytes=-0` cannot be satisfied, so the offset lies behind every file; a suffix longer
    // than the file is the whole file.
    message.offset = last === "0" ? BigInt(Number.MAX_SAFE_INTEGER) : -BigInt(last);
    return;
  }
  if (last !== "" && BigInt(last) < BigInt(first)) return;
  message.offset = BigInt(first);
  if (last !== "") message.length = BigInt(last) - BigInt(first) + 1n;
}

/** Sends a file's bytes as the response body, with status 206 and Content-Range for a range. */
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
  // The first bytes are awaited before the status is sent, so that an error before them becomes an error
  // response. A later error can only abort the connection.
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
    // Fastify keeps the Content-Length set above if the body that it drops for HEAD is a stream.
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

/** The entity tag of a file: its id, since files are immutable and ids are not reused. */
function entityTag(id: string): string {
  return `"${id}"`;
}

/**
 * The header Content-Disposition with the name twice: as ASCII, other characters replaced by "_", and in
 * full, percent-encoded (RFC 6266, RFC 8187).
 */
function contentDisposition(filename: string): string {
  const ascii = filename.replaceAll(/[^ -~]|["\\%]/g, "_");
  const whole = encodeURIComponent(filename).replaceAll(
    /['()*]/g,
    (character) => `%${character.charCodeAt(0).toString(16)}`,
  );
  return `attachment; filename="${ascii}"; filename*=UTF-8''${whole}`;
}
