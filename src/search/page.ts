import { hash } from "node:crypto";
import { invalidArgument } from "../errors.ts";
import { isStorable } from "../postgres/text.ts";

/** The place of a row in a list by distance, ties by id. */
export interface SearchPosition {
  /** Cosine distance, 0 to 2, or NaN, the distance of a zero vector, which comes last. */
  distance: number;
  id: string;
}

/** Bytes of the hash of a search at the beginning of a token, and of the distance that follows it. */
const HASH_BYTES = 8;
const DISTANCE_BYTES = 8;

/** A hash of everything that a list of results depends on. Equal searches have equal hashes. */
export function hashSearch(parts: readonly unknown[]): Buffer {
  return hash("sha256", JSON.stringify(parts), "buffer").subarray(0, HASH_BYTES);
}

/** The token of the page that follows a row: the hash of the search, and where the row stands. */
export function writePageToken(search: Buffer, { distance, id }: SearchPosition): string {
  const place = Buffer.alloc(DISTANCE_BYTES);
  place.writeDoubleBE(distance);
  return Buffer.concat([search, place, Buffer.from(id)]).toString("base64url");
}

/**
 * Reads a token. It is not signed: a made-up one reads a page of what the search finds anyway. Throws INVALID_ARGUMENT
 * for the field `param` when the token belongs to another search, or is none.
 */
export function readPageToken(token: string, search: Buffer, param: string): SearchPosition {
  const bytes = Buffer.from(token, "base64url");
  const id = bytes.subarray(HASH_BYTES + DISTANCE_BYTES).toString();
  if (!bytes.subarray(0, HASH_BYTES).equals(search) || id === "" || !isStorable(id)) {
    throw invalidArgument(
      param,
      `Invalid '${param}': not the 'next_page' of this search. Send it with the query, filters and settings of the first page.`,
    );
  }
  return { distance: bytes.readDoubleBE(HASH_BYTES), id };
}
