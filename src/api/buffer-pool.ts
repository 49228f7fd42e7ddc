/** Messages below this size are allocated: a free list would save less than it costs. */
const POOLED_BYTES_MIN = 64 * 1024;

/** Sizes are rounded up to this, so that the messages of a stream, which are about equal, fit each other's buffers. */
const UNIT_BYTES = 64 * 1024;

/** Maximum size of the free list, in bytes. */
const SPARE_BYTES_MAX = 16 * 1024 * 1024;

/** The memory of buffers that were handed out by `takeBuffer` and not given back. */
const taken = new WeakSet<ArrayBufferLike>();

const spare: ArrayBuffer[] = [];
let spareBytes = 0;

/**
 * Returns a buffer of `bytes`, with any content, for a message that is received. The memory comes from a free list:
 * garbage collection of large buffers and the page faults of new ones took a quarter of a bulk load's CPU time.
 */
export function takeBuffer(bytes: number): Buffer {
  if (bytes < POOLED_BYTES_MIN) return Buffer.allocUnsafe(bytes);
  const index = spare.findIndex(({ byteLength }) => byteLength >= bytes && byteLength <= 2 * bytes);
  const memory =
    index === -1
      ? Buffer.allocUnsafeSlow(Math.ceil(bytes / UNIT_BYTES) * UNIT_BYTES).buffer
      : (spare.splice(index, 1)[0] as ArrayBuffer);
  if (index !== -1) spareBytes -= memory.byteLength;
  taken.add(memory);
  return Buffer.from(memory, 0, bytes);
}

/**
 * Returns the memory of a message to the free list, where the next message overwrites it: nothing may use the message
 * or a view of it any more. Does nothing for other memory, and when it is called twice.
 */
export function giveBackBuffer({ buffer }: Uint8Array): void {
  if (!taken.delete(buffer) || spareBytes + buffer.byteLength > SPARE_BYTES_MAX) return;
  spare.push(buffer as ArrayBuffer);
  spareBytes += buffer.byteLength;
}
