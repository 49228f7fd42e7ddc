import { createHash } from "node:crypto";
import { createContextKey, type ContextValues } from "@connectrpc/connect";
import { invalidArgument } from "../errors.ts";
import { limits } from "../limits.ts";

/**
 * Context key: the value of the request header `Idempotency-Key`, not validated; undefined without the
 * header.
 */
export const idempotencyHeader = createContextKey<string | undefined>(undefined);

/**
 * Reads the idempotency key, under which a caller may safely repeat a request: 1 to 255 printable ASCII
 * characters. Undefined without the header. Throws INVALID_ARGUMENT.
 */
export function readIdempotencyKey(values: ContextValues): string | undefined {
  const key = values.get(idempotencyHeader);
  if (key === undefined || (/^[ -~]+$/.test(key) && key.length <= limits.idempotency_key_chars_max))
    return key;
  throw invalidArgument(
    "Idempotency-Key",
    `Invalid 'Idempotency-Key': expected 1 to ${limits.idempotency_key_chars_max} printable ASCII characters.`,
  );
}

/**
 * Derives an id from an idempotency key, so that a repeated request conflicts with the rows the first one
 * stored. Undefined without a key. The id is the prefix and the 32 hexadecimal digits of a UUID version 8
 * (RFC 9562, 5.8) made of the first 128 bits of a SHA-256 of prefix, key and `place`; `place` tells apart the
 * resources of one request, and requests to different stores. Such ids do not sort by time.
 */
export function deriveIdentifier(
  prefix: "vs" | "emb",
  key: string | undefined,
  ...place: readonly (string | number)[]
): string | undefined {
  if (key === undefined) return undefined;
  const bytes = createHash("sha256")
    .update(JSON.stringify([prefix, key, ...place]))
    .digest()
    .subarray(0, 16);
  bytes[6] = 0x80 | (Number(bytes[6]) & 0x0f);
  bytes[8] = 0x80 | (Number(bytes[8]) & 0x3f);
  return `${prefix}_${bytes.toString("hex")}`;
}
