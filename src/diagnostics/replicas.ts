import { setTimeout as delay } from "node:timers/promises";
import { ok, type Finding, type Subject } from "./finding.ts";

/** How long a replica may take to show how far behind it is, and how often to look. */
const SETTLE_MS = 1_000;
const RECHECK_MS = 100;

/** Whether each replica is fit for searches. */
export async function checkReplicas({ database }: Subject): Promise<Finding[]> {
  const { replicas } = database;
  if (replicas === undefined) return ok("Searches run on the primary: there are no replicas.");
  // One that was opened just now has yet to reach what the primary had then.
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
        "On the primary: select application_name, state, replay_lag from pg_stat_replication; on the replica its log says why.",
    };
  });
}
