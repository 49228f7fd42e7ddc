import { foreignToken, readPageToken, writePageToken } from "../api/page-token.ts";
import { isStorable } from "../postgres/text.ts";

/** The place of a row in a list by distance, ties by id. */
export interface SearchPosition {
  /** Cosine distance, 0 to 2, or NaN, the distance of a zero vector, which comes last. */
  distance: number;
  id: string;
}

/** Bytes of the distance, which the id follows. */
const DISTANCE_BYTES = 8;

/** The token of the page that follows a row in the results of the search with a hash. */
export function writeSearchPage(search: Buffer, { distance, id }: SearchPosition): string {
  const place = Buffer.alloc(DISTANCE_BYTES);
  place.writeDoubleBE(distance);
  return writePageToken(search, Buffer.concat([place, Buffer.from(id)]));
}

/** Reads a token; throws INVALID_ARGUMENT for the field `param` when the token belongs to another search, or is none. */
export function readSearchPage(token: string, search: Buffer, param: string): SearchPosition {
  const place = readPageToken(token, search, param, DISTANCE_BYTES + 1);
  const id = place.subarray(DISTANCE_BYTES).toString();
  if (!isStorable(id)) throw foreignToken(param);
  return { distance: place.readDoubleBE(), id };
}
