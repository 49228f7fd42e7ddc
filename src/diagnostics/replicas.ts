import { setTimeout as delay } from "node:timers/promises";
import { ok, type Finding, type Subject } from "./finding.ts";

/** How long to wait until the lag of every replica is known, and the interval between checks. */
const SETTLE_MS = 1_000;
const RECHECK_MS = 100;

/** Checks that every configured read replica is healthy. */
export async function checkReplicas({ database }: Subject): Promise<Finding[]> {
  const { replicas } = database;
  if (replicas === undefined) return ok("Searches run on the primary: there are no replicas.");
  // The lag of a replica is unknown until it has replayed the WAL position that was recorded first.
  for (
    const startedAt = performance.now();
    performance.now() - startedAt < SETTLE_MS;
    await delay(RECHECK_MS)
  ) {
    await replicas.check();
    if (replicas.states().every(({ lagMs }) => lagMs !== undefined)) break;
  }
  return replicas.states().map(({ description, problem, lagMs }): Finding => {
    if (problem === undefined)
      return { severity: "ok", message: `${description} is ${((lagMs ?? 0) / 1000).toFixed(1)} s behind.` };
    return {
      severity: "warning",
      message: `${description} ${problem}: searches do not use it.`,
      remedy:
        "On the primary, run: select application_name, state, replay_lag from pg_stat_replication; and read the replica's log.",
    };
  });
}
