/** Bytes of JSON in UTF-8 that have a meaning outside of strings, and those that end or escape in one. */
export const QUOTE = 0x22;
export const BACKSLASH = 0x5c;
export const COMMA = 0x2c;
export const COLON = 0x3a;
export const OPEN_BRACKET = 0x5b;
export const CLOSE_BRACKET = 0x5d;
export const OPEN_BRACE = 0x7b;
export const CLOSE_BRACE = 0x7d;

/** 1 for white space, 0 for all other bytes. */
export const SPACE: Uint8Array = markBytes(0x20, 0x09, 0x0a, 0x0d);

/** Bytes of a string that are looked at one by one: a search for single bytes is faster for longer strings only. */
export const SHORT_BYTES = 64;

/** A table with 1 for some bytes, and 0 for all others. */
export function markBytes(...bytes: number[]): Uint8Array {
  const table = new Uint8Array(256);
  for (const byte of bytes) table[byte] = 1;
  return table;
}
