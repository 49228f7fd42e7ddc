import { hash } from "node:crypto";
import { invalidArgument } from "../errors.ts";

/** Bytes of the hash of a request at the beginning of a token. */
const HASH_BYTES = 8;

/** A hash of everything that a list of results depends on. Equal requests have equal hashes. */
export function hashRequest(parts: readonly unknown[]): Buffer {
  return hash("sha256", JSON.stringify(parts), "buffer").subarray(0, HASH_BYTES);
}

/** The token of the page that begins behind a place in the results of a request, whose hash goes with it. */
export function writePageToken(request: Buffer, place: Uint8Array): string {
  return Buffer.concat([request, place]).toString("base64url");
}

/**
 * Reads the place in a token, of at least `bytesMin`. The token is not signed: a made-up one reads a page of what the
 * request finds anyway. Throws INVALID_ARGUMENT for the field `param` when the token belongs to another request.
 */
export function readPageToken(token: string, request: Buffer, param: string, bytesMin: number): Buffer {
  const bytes = Buffer.from(token, "base64url");
  const place = bytes.subarray(HASH_BYTES);
  if (place.length >= bytesMin && bytes.subarray(0, HASH_BYTES).equals(request)) return place;
  throw foreignToken(param);
}

/** INVALID_ARGUMENT: the token in the field `param` is not of this request. */
export function foreignToken(param: string): Error {
  return invalidArgument(
    param,
    `Invalid '${param}': not the 'next_page' of this request. Send it with the query, filters and settings of the first page.`,
  );
}
