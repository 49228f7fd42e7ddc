import { randomFillSync } from "node:crypto";
import { invalidArgument } from "../errors.ts";
import { limits } from "../limits.ts";

/** An id with the time it was made, which is also the resource's `created_at`. */
export interface Identifier {
  id: string;
  createdAt: Date;
}

/** Randomness is fetched for many ids at once: a call costs the same for 8 bytes as for 4,096. */
const random = Buffer.alloc(4096);
let used = random.length;
let lastMs = 0;
let counter = 0;

/**
 * Makes an id: the prefix and the 32 hexadecimal digits of a UUID version 7 (RFC 9562, 5.7), whose
 * leading 48 bits are milliseconds since 1970. The next 12 bits count within the millisecond
 * (method 1 of 6.2), so that the ids of one process sort in the order they were made.
 */
export function makeIdentifier(prefix: "vs" | "emb" | "ing" | "vsfb" | "file"): Identifier {
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
    // OpenAI's ids of files have a hyphen.
    id: `${prefix}${prefix === "file" ? "-" : "_"}${time}7${order}${tail.toString("hex")}`,
    createdAt: new Date(lastMs),
  };
}

/** The time in an id made by `makeIdentifier`; undefined for every other id. */
export function timeOfIdentifier(id: string): Date | undefined {
  const digits = /^(?:vs_|emb_|file-)([0-9a-f]{12})7[0-9a-f]{3}[89ab][0-9a-f]{15}$/.exec(id)?.[1];
  return digits === undefined ? undefined : new Date(Number.parseInt(digits, 16));
}

/**
 * Checks an id chosen by the caller: 1 to 128 characters that need no escaping in a URL, and no "." or "..", which
 * clients take out of a path, so that it would lead to another resource.
 */
export function checkIdentifier(id: string, param: string): void {
  if (id.length > limits.id_chars_max || !/^(?!\.{1,2}$)[\w.:-]+$/.test(id)) {
    const allowed = `1 to ${limits.id_chars_max} of the characters A-Z a-z 0-9 _ . : -, but not '.' or '..'`;
    throw invalidArgument(param, `Invalid '${param}': expected ${allowed}.`);
  }
}
