import { createHash } from "node:crypto";
import { createContextKey, type ContextValues } from "@connectrpc/connect";
import { invalidArgument } from "../errors.ts";
import { limits } from "../limits.ts";

/** The header `Idempotency-Key` as it came; undefined without. */
export const idempotencyHeader = createContextKey<string | undefined>(undefined);

/** Reads the key under which a caller may repeat a request: 1 to 255 printable ASCII characters. */
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
 * Makes the id a key stands for, undefined without one: the prefix and the 32 hexadecimal digits of a UUID version 8 (RFC 9562, 5.8) of the
 * first 128 bits of a SHA-256. `place` says what in which request it is for. So a repeated request meets what the
 * first one stored. Such ids do not sort by time.
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
