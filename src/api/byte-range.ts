import { outOfRange } from "../errors.ts";
import { checkRange } from "./checks.ts";

/** Some bytes of a file. */
export interface ByteRange {
  /** The first one. */
  offset: number;
  /** How many, at least 1. */
  length: number;
}

/** The bytes of a file that a request asks for. OUT_OF_RANGE when none of them is within the file. */
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
