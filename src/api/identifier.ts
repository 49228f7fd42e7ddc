import { randomFillSync } from "node:crypto";
import { invalidArgument } from "../errors.ts";
import { limits } from "../limits.ts";

/** A new id and the time in it, in whole milliseconds, which is also the resource's `created_at`. */
export interface Identifier {
  id: string;
  createdAt: Date;
}

/** Random bytes for 512 ids: a call of `randomFillSync` takes as long for 8 bytes as for 4,096. */
const random = Buffer.alloc(4096);
let used = random.length;
let lastMs = 0;
let counter = 0;

/**
 * Makes an id: the prefix and the 32 hexadecimal digits of a UUID version 7 (RFC 9562, 5.7), which begins
 * with 48 bits of milliseconds since 1970. The next 12 bits are a counter within the millisecond (RFC 9562,
 * 6.2, method 1), so that the ids of one process sort in the order of creation, also when the system clock is
 * set back.
 */
export function makeIdentifier(
  prefix: "vs" | "emb" | "ing" | "vsfb" | "file" | "proj" | "key" | "audit" | "upload" | "part",
): Identifier {
  const nowMs = Date.now();
  if (nowMs > lastMs) {
    lastMs = nowMs;
    counter = 0;
  } else if (++counter > 0xfff) {
    lastMs += 1;
    counter = 0;
  }
  if (used === random.length) {
    randomFillSync(random);
    used = 0;
  }
  const tail = random.subarray(used, (used += 8));
  tail[0] = 0x80 | (Number(tail[0]) & 0x3f);
  const time = lastMs.toString(16).padStart(12, "0");
  const order = counter.toString(16).padStart(3, "0");
  return {
    // OpenAI's file ids have a hyphen after the prefix, all others an underscore.
    id: `${prefix}${prefix === "file" ? "-" : "_"}${time}7${order}${tail.toString("hex")}`,
    createdAt: new Date(lastMs),
  };
}

/**
 * Returns the time in an id of a store, embedding, file or entry of the audit log made by `makeIdentifier`; undefined for all other
 * ids.
 */
export function timeOfIdentifier(id: string): Date | undefined {
  const digits = /^(?:vs_|emb_|audit_|file-)([0-9a-f]{12})7[0-9a-f]{3}[89ab][0-9a-f]{15}$/.exec(id)?.[1];
  return digits === undefined ? undefined : new Date(Number.parseInt(digits, 16));
}

/**
 * Checks an id chosen by the caller: 1 to 128 characters that need no escaping in a URL. "." and ".." are
 * refused, because HTTP clients remove these path segments and would address another resource. Throws
 * INVALID_ARGUMENT.
 */
export function checkIdentifier(id: string, param: string): void {
  if (id.length > limits.id_chars_max || !/^(?!\.{1,2}$)[\w.:-]+$/.test(id)) {
    const allowed = `1 to ${limits.id_chars_max} of the characters A-Z a-z 0-9 _ . : -, but not '.' or '..'`;
    throw invalidArgument(param, `Invalid '${param}': expected ${allowed}.`);
  }
}
