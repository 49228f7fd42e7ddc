import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import type { FastifyReply, FastifyRequest } from "fastify";

/** A page, or a file of one: the same for everybody, and in memory. */
export interface Asset {
  body: Buffer;
  compressed: Buffer;
  /** Media type. */
  type: string;
  /** The value of the header ETag. */
  tag: string;
}

/** Prepares a file for being sent: compresses it, and makes its entity tag from its content. */
export function createAsset(body: Buffer, type: string): Asset {
  const tag = `"${createHash("sha256").update(body).digest("base64url")}"`;
  return { body, compressed: gzipSync(body, { level: 9 }), type, tag };
}

/**
 * Sends an asset, compressed where the client takes gzip, with these headers; status 304 without a body where the client
 * has it already.
 */
export function sendAsset(
  request: FastifyRequest,
  reply: FastifyReply,
  { body, compressed, type, tag }: Asset,
  headers: Record<string, string>,
) {
  void reply.headers({ etag: tag, vary: "accept-encoding", ...headers });
  // The header may list several tags, and a proxy that compresses makes a tag weak: W/"…".
  if (request.headers["if-none-match"]?.includes(tag) === true) return reply.code(304).send();
  void reply.type(type);
  if (!/\bgzip\b/.test(String(request.headers["accept-encoding"]))) return reply.send(body);
  return reply.header("content-encoding", "gzip").send(compressed);
}
