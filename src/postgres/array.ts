import { Buffer } from "node:buffer";

/** OIDs of built-in Postgres types (src/include/catalog/pg_type.dat); the same in every version. */
export const OID = { text: 25, jsonb: 3802, timestamptz: 1184 } as const;

/**
 * Encodes a one-dimensional array for a query parameter, in the binary form of `array_recv`
 * (src/backend/utils/adt/arrayfuncs.c): int32 dimensions, int32 has-nulls, int32 element type, int32
 * length and lower bound, then for each element its int32 length and its bytes in binary form.
 */
export function encodeArray(elementOid: number, elements: readonly Uint8Array[]): Buffer {
  const bytes = elements.reduce((sum, element) => sum + 4 + element.length, 20);
  const array = Buffer.allocUnsafe(bytes);
  let position = array.writeInt32BE(1, 0);
  position = array.writeInt32BE(0, position);
  position = array.writeInt32BE(elementOid, position);
  position = array.writeInt32BE(elements.length, position);
  position = array.writeInt32BE(1, position);
  for (const element of elements) {
    position = array.writeInt32BE(element.length, position);
    array.set(element, position);
    position += element.length;
  }
  return array;
}

/**
 * The binary form of a jsonb (jsonb_recv in src/backend/utils/adt/jsonb.c): the version byte 1, then the JSON
 * text.
 */
export function encodeJsonb(json: string): Buffer {
  return Buffer.from(`\u0001${json}`);
}
