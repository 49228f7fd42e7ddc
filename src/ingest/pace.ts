import type { Principal } from "../api/principal.ts";
import type { Limiter } from "../api/rates/limiter.ts";

/** The rows per second of a stream's caller. */
export interface Pace {
  /** Counts rows that are to be written; false, and nothing is counted, when they have to wait. */
  tryTake: (rows: number) => boolean;
  /** Waits until the rows may be written, and counts them. */
  take: (rows: number) => Promise<void>;
}

/**
 * Holds a stream to the rows per second of its caller. A shutdown ends the wait: rows that were received are written
 * then. Throws the signal's reason when it aborts.
 */
export function paceRows(
  limiter: Limiter,
  caller: Principal,
  signal: AbortSignal,
  draining: AbortSignal,
): Pace {
  const either = AbortSignal.any([signal, draining]);
  return {
    tryTake: (rows) => draining.aborted || limiter.tryTakeRows(caller, rows),
    async take(rows) {
      await limiter.waitForRows(caller, rows, either).catch(() => signal.throwIfAborted());
    },
  };
}
