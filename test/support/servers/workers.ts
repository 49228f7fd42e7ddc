import { readFileSync } from "node:fs";
import type { Started } from "./process.ts";

/** The pids of the workers that serve, by the last line that names them. */
export function readPids({ output, messages }: Pick<Started, "output" | "messages">): number[] {
  const reloaded = messages.findLast((message) => message.startsWith("Reloaded: "));
  const ready = output.findLast((line) => line.includes('"msg":"Ready"'));
  const { table } = JSON.parse(ready ?? '{"table":{}}') as { table: { workers?: string } };
  return (reloaded ?? table.workers ?? "").match(/\d+/g)?.slice(1).map(Number) ?? [];
}

/** Whether a process runs; one that has ended and whom nobody has waited for does not. */
export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s*Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}
