import { Semaphore } from "../api/concurrency/semaphore.ts";
import { rateLimited } from "../errors.ts";
import type { Patience } from "./embedder.ts";

/**
 * Callers that may wait per request in flight; more are refused at once. A provider that answers within 0.2 s works off
 * that many within 13 s.
 */
const WAITING_PER_REQUEST = 64;

/** The wait proposed to a caller who was refused because too many others wait. */
const BUSY_RETRY_AFTER_MS = 5_000;

/** Waits for the turn to send a request to a model; disposing of the result ends the turn. */
export type Queue = (signal: AbortSignal, patience: Patience) => Promise<Disposable>;

/**
 * Bounds the requests in flight, and the callers who wait for their turn, in number and in time. A call that sends several
 * requests, one after the other, waits anew for each, so that calls take turns.
 */
export function createQueue(concurrency: number, waitMs: number): Queue {
  const requests = new Semaphore(concurrency);
  let waiting = 0;
  return async (signal, patience) => {
    if (patience === "unbounded") return requests.acquire(signal);
    if (waiting >= WAITING_PER_REQUEST * concurrency) throw tooBusy();
    const late = AbortSignal.timeout(waitMs);
    waiting++;
    try {
      return await requests.acquire(AbortSignal.any([signal, late]));
    } catch (error) {
      throw late.aborted && !signal.aborted ? tooBusy() : error;
    } finally {
      waiting--;
    }
  };
}

function tooBusy(): Error {
  return rateLimited("Too many calls wait for the embedding provider.", BUSY_RETRY_AFTER_MS);
}
