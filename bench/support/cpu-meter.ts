import type pg from "pg";
import { median, ownCpuMs } from "./rounds.ts";
import { readCpuMs, type BenchServer } from "./server.ts";

/** CPU time in milliseconds, user and kernel mode, by who used it. */
export interface CpuShares {
  /** The benchmark's process, which sends the requests. */
  client: number;
  service: number;
  /** The backends of the benchmark's database. Zero where Postgres runs on another machine. */
  postgres: number;
}

/** Measures the CPU time of all three parties of a round. */
export interface CpuMeter {
  start(): Promise<void>;
  /** Ends a round of the contender `name`. */
  stop(name: string): Promise<void>;
  /** The median over the contender's rounds, without its first, the warm-up. */
  median(name: string): CpuShares;
}

/**
 * Creates a meter. Postgres' share is that of the backends that are connected at the end of a round, so the
 * pools must be open; its background processes, such as the checkpointer, are not counted.
 */
export function meterCpu(pool: pg.Pool, server: BenchServer): CpuMeter {
  const rounds = new Map<string, CpuShares[]>();
  let before = { client: 0, service: 0, backends: new Map<number, number>() };
  async function read() {
    const { rows } = await pool.query<{ pid: number }>(
      "select pid from pg_stat_activity where datname = current_database()",
    );
    const backends = new Map(rows.map(({ pid }) => [pid, backendCpuMs(pid)]));
    return { client: ownCpuMs(), service: server.cpuMs(), backends };
  }
  return {
    async start() {
      before = await read();
    },
    async stop(name) {
      const { client, service, backends } = await read();
      let postgres = 0;
      for (const [pid, cpuMs] of backends) postgres += cpuMs - (before.backends.get(pid) ?? 0);
      const shares = { client: client - before.client, service: service - before.service, postgres };
      rounds.set(name, [...(rounds.get(name) ?? []), shares]);
    },
    median(name) {
      const measured = (rounds.get(name) ?? []).slice(1);
      const of = (part: keyof CpuShares) => median(measured.map((shares) => shares[part]));
      return { client: of("client"), service: of("service"), postgres: of("postgres") };
    },
  };
}

/** Zero for a backend that has just ended, or that runs on another machine. */
function backendCpuMs(pid: number): number {
  try {
    return readCpuMs(pid);
  } catch {
    return 0;
  }
}
