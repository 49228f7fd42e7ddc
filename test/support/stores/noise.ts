import { randomFillSync } from "node:crypto";

/** Random bytes: incompressible, with every byte value. */
export function noise(bytes: number): Buffer<ArrayBuffer> {
  return randomFillSync(Buffer.alloc(bytes));
}
