import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { invalidArgument, tooLarge } from "../errors.ts";
import { messageTooLarge } from "./limits/request-limits.ts";

/**
 * Largest ratio of a message to its compressed form, for messages above `FREE_BYTES`. Rows of decimal numbers and text
 * shrink to a half or a tenth; gzip at its best, of zeros, has a ratio of 1,032.
 */
const RATIO_MAX = 100;

/** Bytes that any message may expand to. */
const FREE_BYTES = 1024 * 1024;

const inflate = promisify(gunzip);

/** The largest size that a compressed message of `bytes` may expand to. */
export function expandedBytesMax(bytes: number, bytesMax: number): number {
  return Math.min(bytesMax, Math.max(FREE_BYTES, RATIO_MAX * bytes));
}

/**
 * Decompresses a gzip message, and stops as soon as it exceeds `bytesMax`, or `RATIO_MAX`. That is REQUEST_TOO_LARGE;
 * bytes that are not gzip are INVALID_ARGUMENT.
 */
export async function gunzipMessage(bytes: Uint8Array, bytesMax: number): Promise<Buffer> {
  if (bytes.length === 0) return Buffer.alloc(0);
  const maxOutputLength = expandedBytesMax(bytes.length, bytesMax);
  try {
    return await inflate(bytes, { maxOutputLength });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_BUFFER_TOO_LARGE")
      throw invalidArgument(undefined, "The message is not valid gzip.", "INVALID_REQUEST");
    if (maxOutputLength === bytesMax) throw messageTooLarge(bytesMax);
    throw tooLarge(`The message expands to more than ${RATIO_MAX} times its compressed size.`);
  }
}
