import { setTimeout as delay } from "node:timers/promises";
import { messageOf } from "../../errors.ts";
import type { Database } from "../database.ts";
import { isAway } from "../errors.ts";

/** Pauses between two tries: the first, doubled each time, and the longest. */
const PAUSE_MIN_MS = 250;
const PAUSE_MAX_MS = 5_000;

/**
 * Runs `work`, and runs it again while the database cannot be reached or does not take connections yet, for at
 * most `waitMs`: a service and its database may start in any order. `report` gets a message before each pause.
 * Rejects with the last error, and at once with any other error.
 */
export async function untilReached(
  { description }: Database,
  waitMs: number,
  work: () => Promise<unknown>,
  report: (message: string) => void,
): Promise<void> {
  const endsAt = performance.now() + waitMs;
  for (let pauseMs = PAUSE_MIN_MS; ; pauseMs = Math.min(2 * pauseMs, PAUSE_MAX_MS)) {
    try {
      await work();
      return;
    } catch (error) {
      const leftMs = endsAt - performance.now();
      if (!isAway(error) || leftMs <= 0) throw error;
      report(
        `Cannot reach ${description}: ${messageOf(error)}. Trying again for at most ${Math.ceil(leftMs / 1000)} s (DATABASE_WAIT_SECONDS)`,
      );
      await delay(Math.min(pauseMs, leftMs));
    }
  }
}
