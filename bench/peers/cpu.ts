import { readdirSync, readFileSync } from "node:fs";
import { readCpuMs } from "../support/server.ts";

/** CPU time so far, in milliseconds, of a process and the processes that it has started and that run. */
export function treeCpuMs(pid: number): number {
  const children = read(`/proc/${pid}/task/${pid}/children`).trim().split(" ").filter(Boolean);
  return cpuMsOf(pid) + sum(children.map((child) => treeCpuMs(Number(child))));
}

/**
 * CPU time so far of the backends connected to a database. Zero where Postgres runs on another machine. A backend's title
 * is "postgres: user database address state".
 */
export function backendsCpuMs(databaseUrl: string): number {
  const name = new URL(databaseUrl).pathname.slice(1);
  const pids = readdirSync("/proc").filter((entry) => /^\d+$/.test(entry));
  const backends = pids.filter((pid) => read(`/proc/${pid}/cmdline`).includes(` ${name} `));
  return sum(backends.map((pid) => cpuMsOf(Number(pid))));
}

function cpuMsOf(pid: number): number {
  try {
    return readCpuMs(pid);
  } catch {
    // It has just ended.
    return 0;
  }
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
