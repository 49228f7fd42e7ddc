import type { ChildProcess } from "node:child_process";
import { setPriority } from "node:os";

/** Niceness (scheduling priority) of processes that compute for this one: on a busy machine calls have precedence. */
const NICENESS = 5;

/** Lowers the scheduling priority of a child process. */
export function renice({ pid }: ChildProcess): void {
  try {
    // A process that could not be started has no pid.
    if (pid !== undefined) setPriority(pid, NICENESS);
  } catch {
    // The priority is only an optimisation: ignores a missing privilege, and a process that has already ended.
  }
}
