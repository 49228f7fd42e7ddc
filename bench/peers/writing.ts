import { median, type Contender } from "../support/rounds.ts";
import type { Row } from "./peer.ts";
import { alternate, measureSpeed } from "./speed.ts";
import { CONCURRENCY, type Subject, type Workload } from "./workload.ts";

/** Of this many requests of the mixed load, one is an insert. */
const INSERT_EVERY = 10;
/** Inserts of a round for which rows are generated in advance. */
const INSERTS = 200;
/** Rows that a contender deletes in a round by id, and by a filter. */
const DELETES = 100;
const FILTERED_DELETES = 1_000;

type Kind = "search" | "insert";

/** Nine searches to one insert of a row, into the indexed collection. */
export async function mixed(
  workload: Workload,
  subjects: readonly Subject<"search" | "insert">[],
): Promise<void> {
  const contenders = subjects.map((subject) => mix(workload, subject));
  const results = await alternate(workload, contenders);
  const both = results.map((result, index) => {
    // The medians of the measured rounds only: those before belong to the trial and the warm-up.
    const of = (kind: Kind) => median((contenders[index] as Mixed).medians[kind].slice(-workload.rounds));
    return { ...result, search: of("search"), insert: of("insert") };
  });
  workload.report.add(`mixed, 90 % searches and 10 % inserts, concurrency ${CONCURRENCY}`, both, {
    "requests/s": ({ callsPerSecond }) => callsPerSecond.toFixed(0),
    "search p50 ms": (result) => result.search.toFixed(2),
    "insert p50 ms": (result) => result.insert.toFixed(2),
    "server CPU ms": ({ cpuMsPerCall }) => cpuMsPerCall.toFixed(2),
  });
  for (const kind of ["search", "insert"] as const)
    workload.lines.push({
      name: `mixed 90/10, concurrency ${CONCURRENCY}, ${kind} p50 ms`,
      better: "less",
      values: new Map(both.map((result) => [result.name, result[kind]])),
      digits: 1,
    });
}

/** A contender of the mixed load, with the median latencies of each round. */
interface Mixed extends Contender {
  medians: Record<Kind, number[]>;
}

function mix({ query, takeRows }: Workload, { name, peer, collection }: Subject<"search" | "insert">): Mixed {
  const medians: Record<Kind, number[]> = { search: [], insert: [] };
  let latencies: Record<Kind, number[]> = { search: [], insert: [] };
  let fresh: Row[] = [];
  return {
    name,
    cpuMs: peer.cpuMs,
    medians,
    async prepare() {
      fresh = takeRows(INSERTS);
      latencies = { search: [], insert: [] };
    },
    async call(index) {
      const isInsert = index % INSERT_EVERY === INSERT_EVERY - 1;
      const row = isInsert ? (fresh.pop() ?? takeRows(1)[0]) : undefined;
      const startedAt = performance.now();
      if (row === undefined) await peer.search(collection, { vector: query(index) });
      else await peer.insert(collection, row);
      latencies[isInsert ? "insert" : "search"].push(performance.now() - startedAt);
    },
    async verify() {
      for (const kind of ["search", "insert"] as const) medians[kind].push(median(latencies[kind]));
    },
  };
}

/** Deletes rows by id, one a request, that were added just before. */
export async function deletes(
  workload: Workload,
  subjects: readonly Subject<"prepareLoad" | "delete">[],
): Promise<void> {
  const contenders = subjects.map(({ name, peer, collection }): Contender => {
    let added: Row[] = [];
    return {
      name,
      cpuMs: peer.cpuMs,
      calls: DELETES,
      async prepare() {
        added = workload.takeRows(DELETES);
        await peer.prepareLoad(collection, added)();
      },
      call: (index) => peer.delete(collection, (added[index] as Row).id),
    };
  });
  await measureSpeed(workload, "deletes by id", contenders, { unit: "rows/s" });
}

/** Deletes by one request with a filter rows that were added just before. */
export async function deletesByFilter(workload: Workload, subjects: readonly Subject[]): Promise<void> {
  const name = `delete of ${FILTERED_DELETES} rows by a filter, ms`;
  const results = await alternate(
    workload,
    subjects.map((subject) => deleteByFilter(workload, subject)),
    1,
  );
  workload.report.add(name, results, { "p50 ms": ({ p50Ms }) => p50Ms.toFixed(0) });
  const values = new Map(results.map((result) => [result.name, result.p50Ms]));
  workload.lines.push({ name, better: "less", values, digits: 0 });
}

function deleteByFilter({ takeRows }: Workload, { name, peer, collection }: Subject): Contender {
  let from = 0;
  return {
    name,
    calls: 1,
    async prepare() {
      const added = takeRows(FILTERED_DELETES);
      from = (added[0] as Row).position;
      await peer.prepareLoad(collection, added)();
    },
    call: () => peer.deleteFrom(collection, from),
  };
}
