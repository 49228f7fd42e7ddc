import { outOfRange } from "../errors.ts";
import { checkRange } from "./checks.ts";

/** A byte range of a file. */
export interface ByteRange {
  /** Position of the first byte, from 0. */
  offset: number;
  /** Number of bytes; 0 only for an empty file. */
  length: number;
}

/**
 * Reads the byte range of a request for a file of `bytes` bytes. A negative offset counts from the end;
 * default: the whole file. The range is cut off at the file's end. Throws OUT_OF_RANGE when the offset is at
 * or behind the end.
 */
export function readRange(
  bytes: number,
  request: { offset?: bigint | undefined; length?: bigint | undefined },
): ByteRange {
  const offset = Number(request.offset ?? 0n);
  const length = Number(request.length ?? Infinity);
  checkRange("length", length, 1, Infinity);
  const start = offset < 0 ? Math.max(0, bytes + offset) : offset;
  if (start >= bytes && start > 0)
    throw outOfRange(`Invalid 'offset': the file has ${bytes} bytes, but got ${offset}.`, "offset");
  return { offset: start, length: Math.min(length, bytes - start) };
}
