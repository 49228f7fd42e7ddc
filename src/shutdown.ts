import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import type { FastifyInstance } from "fastify";
import { cancelled } from "./errors.ts";
import type { Health } from "./wire/grpc/health.ts";
import type { PortServer } from "./wire/port.ts";

/** The ways a service stops. */
export interface Shutdown {
  /**
   * Graceful shutdown: reports NOT_SERVING, goes on for `delayMs` (default 0), so that load balancers notice,
   * then refuses new connections, waits at most `graceMs` for calls in flight, cancels them and closes their
   * connections. Returns within two seconds more, whatever hangs.
   */
  stop: (graceMs: number, delayMs?: number) => Promise<void>;
  /**
   * Stops while another process serves the same port: takes no new connections, lets clients leave without a lost
   * request, and then stops within `graceMs`.
   */
  retire: (graceMs: number) => Promise<void>;
}

/** What a shutdown ends. */
export interface Stoppable {
  server: FastifyInstance;
  health: Pick<Health, "drain" | "leave" | "stop">;
  /** Work that no call waits for. */
  background: readonly { stop: () => Promise<void> }[];
  /** What calls and work in the background use to their end. */
  recorder: { stop: () => Promise<void> };
  buckets: { close: () => Promise<void> };
  /** Writes the entries of the audit log that wait, after the last call. */
  trail: { stop: () => Promise<void> };
  /** Aborted when calls that may take long shall end in order. */
  draining: AbortController;
  /** Aborted when calls are cancelled. */
  cut: AbortController;
}

/** How long a client of HTTP/1.1 that pauses between two requests keeps its connection to a retired process. */
const RETIRE_MS = 5_000;
/** How long calls and work in the background may take to end once they were cut. */
const CUT_MS = 1_000;

/** Creates the shutdown of a service. */
export function createShutdown({ server, health, background, draining, cut, ...last }: Stoppable): Shutdown {
  const stop = async (graceMs: number, delayMs = 0) => {
    health.drain();
    const workEnded = Promise.all(background.map((work) => work.stop()));
    await delay(delayMs);
    draining.abort();
    const closed = server.close();
    const deadline = setTimeout(() => {
      cut.abort(cancelled());
      server.server.closeAllConnections();
    }, graceMs);
    await atMost(graceMs + CUT_MS, Promise.all([closed, workEnded]));
    clearTimeout(deadline);
    await atMost(CUT_MS, Promise.all([last.buckets.close(), last.trail.stop(), last.recorder.stop()]));
    health.stop();
  };
  const retire = async (graceMs: number) => {
    health.leave();
    const left = once(server.server, "close");
    (server.server as PortServer).retire();
    draining.abort();
    await atMost(RETIRE_MS, left);
    await stop(graceMs);
  };
  return { stop, retire };
}

/** Waits for `work`, but not longer: what hangs, such as a statement without an answer, must not keep a shutdown. */
async function atMost(waitMs: number, work: Promise<unknown>): Promise<void> {
  const waited = new AbortController();
  const late = delay(waitMs, undefined, { signal: waited.signal }).catch(() => {});
  await Promise.race([work, late]);
  waited.abort();
}
