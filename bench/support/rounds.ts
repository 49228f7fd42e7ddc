import { interruption } from "./interruption.ts";

/** One of the compared ways to do the same work. */
export interface Contender {
  name: string;
  /** CPU time, so far, of the process that does the work; default: that of the plan. */
  cpuMs?: () => number;
  /** Calls of this contender per round; default: those of the plan. */
  calls?: number;
  /** Runs before each round of this contender, not measured. */
  prepare?(): Promise<void>;
  /** Does the work once; calls are numbered from 0 within a round. */
  call(index: number): Promise<unknown>;
  /** Runs after each round of this contender, not measured; throws when the work was not done. */
  verify?(calls: number): Promise<void>;
}

export interface Plan {
  /** Measured rounds; one warm-up round precedes them. */
  rounds: number;
  /** Calls of each contender per round. */
  calls: number;
  /** Calls in flight at the same time. */
  concurrency: number;
  /** CPU time of the server, so far. */
  cpuMs: () => number;
}

/** CPU time of this process, so far: for contenders that do the work in the benchmark's process. */
export function ownCpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** The result of a contender: each number is the median over the rounds. */
export interface Result {
  name: string;
  concurrency: number;
  callsPerSecond: number;
  p50Ms: number;
  p95Ms: number;
  p99Ms: number;
  /** CPU time, in milliseconds per call, of the server or of the process named by `Contender.cpuMs`. */
  cpuMsPerCall: number;
  /** `cpuMsPerCall` minus that of the floor in the same round. */
  addedCpuMs: number;
  /** Calls per second divided by the floor's in the same round. */
  ratio: number;
  /** p50 minus that of the floor in the same round. */
  addedMs: number;
}

type Round = Pick<Result, "callsPerSecond" | "p50Ms" | "p95Ms" | "p99Ms" | "cpuMsPerCall">;

/**
 * Measures the contenders alternately, round after round, so that other load on the machine affects all of
 * them equally. The first contender is the floor, to which the others are compared within each round.
 */
export async function compare(contenders: readonly Contender[], plan: Plan): Promise<Result[]> {
  const rounds: Round[][] = [];
  for (let round = 0; round <= plan.rounds; round++) {
    const row: Round[] = [];
    for (const contender of contenders) row.push(await runRound(contender, plan));
    if (round > 0) rounds.push(row);
  }
  return contenders.map(({ name }, index) => {
    const over = (value: (own: Round, floor: Round) => number) =>
      median(rounds.map((row) => value(row[index] as Round, row[0] as Round)));
    return {
      name,
      concurrency: plan.concurrency,
      callsPerSecond: over((own) => own.callsPerSecond),
      p50Ms: over((own) => own.p50Ms),
      p95Ms: over((own) => own.p95Ms),
      p99Ms: over((own) => own.p99Ms),
      cpuMsPerCall: over((own) => own.cpuMsPerCall),
      addedCpuMs: over((own, floor) => own.cpuMsPerCall - floor.cpuMsPerCall),
      ratio: over((own, floor) => own.callsPerSecond / floor.callsPerSecond),
      addedMs: over((own, floor) => own.p50Ms - floor.p50Ms),
    };
  });
}

async function runRound(contender: Contender, { concurrency, ...plan }: Plan): Promise<Round> {
  const { cpuMs, calls } = { ...plan, ...contender };
  await contender.prepare?.();
  const latencies: number[] = [];
  let next = 0;
  const work = async () => {
    while (next < calls) {
      interruption.throwIfAborted();
      const index = next++;
      const calledAt = performance.now();
      await contender.call(index);
      latencies.push(performance.now() - calledAt);
    }
  };
  const cpuBefore = cpuMs();
  const startedAt = performance.now();
  await Promise.all(Array.from({ length: concurrency }, work));
  const elapsedMs = performance.now() - startedAt;
  const cpuUsed = cpuMs() - cpuBefore;
  await contender.verify?.(calls);
  return {
    callsPerSecond: (calls / elapsedMs) * 1000,
    p50Ms: median(latencies),
    p95Ms: quantile(latencies, 0.95),
    p99Ms: quantile(latencies, 0.99),
    cpuMsPerCall: cpuUsed / calls,
  };
}

/** The median. */
export function median(values: number[]): number {
  return quantile(values, 0.5);
}

/** A quantile with linear interpolation; `share` from 0 to 1. */
function quantile(values: number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const position = share * (sorted.length - 1);
  const below = sorted[Math.floor(position)] as number;
  const above = sorted[Math.ceil(position)] as number;
  return below + (above - below) * (position % 1);
}
