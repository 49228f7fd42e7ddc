import { ByteBudget } from "./api/byte-budget.ts";
import type { Config } from "./config.ts";
import type { AdmitFor } from "./wire/service.ts";

/**
 * Budget for messages that are still being received, as a fraction of INGEST_MEMORY_BYTES and in addition to
 * it.
 */
const ARRIVING_SHARE = 1 / 8;

/**
 * How long a message waits for memory, as a fraction of the idle timeout, which continues to run during the
 * wait.
 */
const ARRIVING_WAIT_SHARE = 1 / 2;

/**
 * Admission control: bounds the memory of messages that are still being received, over all ingests and file
 * uploads.
 */
export function admitArriving({ memoryBytes, idleMs }: Config["ingest"]): AdmitFor {
  const budget = new ByteBudget(memoryBytes * ARRIVING_SHARE);
  const waitMs = idleMs * ARRIVING_WAIT_SHARE;
  const message = "No memory for more messages now: try again later.";
  return (caller) => (bytes, signal) => budget.shareOf(caller).reserveWithin(bytes, waitMs, message, signal);
}

/** Bytes of a body that needs no reservation: as many as the flow-control window of HTTP/2 holds anyway. */
const FREE_BODY_BYTES = 64 * 1024;

/** How long a body waits for memory. */
const BODY_WAIT_MS = 5_000;

const nothing: Disposable = { [Symbol.dispose]: () => {} };

/** Bounds what the bodies of all unary calls take together, from their first byte to the end of the call. */
export function admitBodies(memoryBytes: number): AdmitFor {
  const budget = new ByteBudget(memoryBytes);
  const message = "The service has no memory for more request bodies at the moment.";
  return (caller) => async (bytes, signal) =>
    bytes <= FREE_BODY_BYTES
      ? nothing
      : budget.shareOf(caller).reserveWithin(bytes, BODY_WAIT_MS, message, signal);
}
