import { readFileSync } from "node:fs";
import { citusUrls, execute } from "./database.ts";

/** The URLs of a benchmark's database: of the server, or of the coordinator, then of the workers of a cluster. */
export function nodeUrls(url: string): string[] {
  const { pathname } = new URL(url);
  const workers = citusUrls().slice(1);
  return [url, ...workers.map((worker) => Object.assign(new URL(worker), { pathname }).href)];
}

/** CPU time so far of the database's backends on one server, in milliseconds, by pid; empty where it is on another machine. */
export async function backendCpuMs(url: string): Promise<Map<number, number>> {
  // The first number is nanoseconds on a CPU: finer than the ticks of /proc/PID/stat.
  return new Map(await readBackends(url, "schedstat", (text) => Number(text.split(" ")[0]) / 1e6));
}

/** CPU time between two readings, in milliseconds; without the backends that have ended meanwhile. */
export function cpuBetween(before: Map<number, number>, after: Map<number, number>): number {
  return [...after].reduce((sum, [pid, ms]) => sum + ms - (before.get(pid) ?? 0), 0);
}

/** Memory of its own, RssAnon, of the largest backend on one server, in MiB; -Infinity where it is on another machine. */
export async function largestBackend(url: string): Promise<number> {
  const anonymous = /^RssAnon:\s+(\d+) kB/m;
  const sizes = await readBackends(url, "status", (text) => Number(anonymous.exec(text)?.[1]) / 1024);
  return Math.max(...sizes.map(([, mebibytes]) => mebibytes));
}

/** Reads a file of /proc of each backend of the database but the one that asks, which is gone by then. */
async function readBackends(
  url: string,
  file: string,
  read: (text: string) => number,
): Promise<[pid: number, value: number][]> {
  const rows = await execute(
    url,
    `select pid from pg_stat_activity
     where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`,
  );
  return rows.flatMap(({ pid }): [number, number][] => {
    try {
      return [[Number(pid), read(readFileSync(`/proc/${String(pid)}/${file}`, "utf8"))]];
    } catch {
      return [];
    }
  });
}
