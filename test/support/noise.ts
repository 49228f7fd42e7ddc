import { randomFillSync } from "node:crypto";

/** Random bytes, in which every byte value occurs and nothing can be compressed. */
export function noise(bytes: number): Buffer<ArrayBuffer> {
  return randomFillSync(Buffer.alloc(bytes));
}
