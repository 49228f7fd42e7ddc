import { interruption } from "../support/interruption.ts";
import type { Columns } from "../support/report.ts";
import { compare, type Contender, type Result } from "../support/rounds.ts";
import type { Choice } from "./recall.ts";
import { CONCURRENCY, type Workload } from "./workload.ts";

/** How long a contender is tried to see how many calls its rounds take. */
const TRIAL_MS = 300;
const CALLS_MIN = 20;

/** Measures contenders in alternating rounds that take each about the same time. */
export async function alternate(
  { rounds, seconds }: Workload,
  contenders: readonly Contender[],
  concurrency = CONCURRENCY,
): Promise<Result[]> {
  const timed: Contender[] = [];
  for (const contender of contenders) {
    const calls = contender.calls ?? (await countCalls(contender, concurrency, seconds));
    timed.push({ ...contender, calls });
  }
  return compare(timed, { rounds, calls: CALLS_MIN, concurrency, cpuMs: () => 0 });
}

/** The number of calls that a contender gets done in that time, by a short trial. */
async function countCalls(contender: Contender, concurrency: number, seconds: number): Promise<number> {
  await contender.prepare?.();
  const startedAt = performance.now();
  let calls = 0;
  const work = async () => {
    while (performance.now() - startedAt < TRIAL_MS) {
      interruption.throwIfAborted();
      await contender.call(calls++);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, work));
  const perSecond = calls / ((performance.now() - startedAt) / 1000);
  return Math.max(CALLS_MIN, Math.round(perSecond * seconds));
}

/** Measures contenders as `alternate` does, and adds their calls per second to the report and to the summary. */
export async function measureSpeed(
  workload: Workload,
  name: string,
  contenders: readonly Contender[],
  {
    concurrency = CONCURRENCY,
    choices,
    unit = "queries/s",
  }: { concurrency?: number; choices?: Map<string, Choice>; unit?: string } = {},
): Promise<void> {
  const results = await alternate(workload, contenders, concurrency);
  const columns: Columns = {
    [unit]: ({ callsPerSecond }) => callsPerSecond.toFixed(0),
    "p50 ms": ({ p50Ms }) => p50Ms.toFixed(2),
    "p95 ms": ({ p95Ms }) => p95Ms.toFixed(2),
    "server CPU ms": ({ cpuMsPerCall }) => cpuMsPerCall.toFixed(2),
    ...(choices !== undefined && {
      ef: (result: Result) => String(choices.get(result.name)?.ef ?? ""),
      "recall@10": (result: Result) => choices.get(result.name)?.recall.toFixed(4) ?? "",
    }),
  };
  workload.report.add(`${name}, concurrency ${concurrency}`, results, columns);
  workload.lines.push({
    name: `${name}, concurrency ${concurrency}, ${unit}`,
    better: "more",
    values: new Map(results.map((result) => [result.name, result.callsPerSecond])),
    digits: 0,
  });
}
