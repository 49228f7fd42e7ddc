import type { Contender } from "../support/rounds.ts";
import { makeRow, type Peer, type Row } from "./peer.ts";
import type { Points } from "../support/points.ts";
import { chooseEf, findNearest, measureRecall, type Choice } from "./recall.ts";
import { measureSpeed } from "./speed.ts";
import { CONCURRENCY, QUERIES, type Searched, type Subject, type Workload } from "./workload.ts";

/** Shares of the rows that the filters leave. */
const SHARES = [0.5, 0.01, 0.001];
/** Rows of a small store. */
const TENANT_ROWS = 100;

/** Searches without a filter. Returns the candidate list of each subject. */
export async function search(
  workload: Workload,
  subjects: readonly Searched[],
): Promise<Map<string, Choice>> {
  const choices = await choose(workload, subjects, workload.rows);
  for (const concurrency of [1, CONCURRENCY, 32])
    await measureSpeed(
      workload,
      "search",
      subjects.map((subject) => searches(workload, subject)),
      { concurrency, choices },
    );
  return choices;
}

/** Searches with a filter by `lt`, for each share of rows that match. */
export async function filters(
  workload: Workload,
  subjects: readonly Searched[],
  unfiltered: Map<string, Choice>,
): Promise<void> {
  for (const share of SHARES) {
    const below = Math.round(share * workload.rows.length);
    const choices = await choose(workload, subjects, workload.rows.slice(0, below), { below, unfiltered });
    await measureSpeed(
      workload,
      `filter lt, ${100 * share} % match`,
      subjects.map((subject) => searches(workload, subject, below)),
      { choices },
    );
  }
  for (const { name, peer, collection } of subjects)
    await peer.setEf(collection, (unfiltered.get(name) as Choice).ef);
}

function searches({ query }: Workload, { name, peer, collection }: Searched, below?: number): Contender {
  return {
    name,
    cpuMs: peer.cpuMs,
    call: (index) => peer.search(collection, { vector: query(index), below }),
  };
}

/** Chooses the candidate list of each subject; for a filter not below that without one. */
async function choose(
  { query }: Workload,
  subjects: readonly Searched[],
  matching: readonly Row[],
  { below, unfiltered }: { below?: number; unfiltered?: Map<string, Choice> } = {},
): Promise<Map<string, Choice>> {
  const truth = Array.from({ length: QUERIES }, (_, index) => findNearest(matching, query(index)));
  const choices = new Map<string, Choice>();
  for (const { name, peer, collection } of subjects) {
    const tried = {
      setEf: (ef: number) => peer.setEf(collection, ef),
      search: (index: number) => peer.search(collection, { vector: query(index), below }),
    };
    choices.set(name, await chooseEf(tried, truth, unfiltered?.get(name)?.ef));
  }
  return choices;
}

/** Searches of many small stores in turn, each with the default candidate list; the bound reads those of pgquiver. */
export async function tenants(
  workload: Workload,
  peers: readonly Peer[],
  bound: Subject<"searchTenant">,
  points: Points,
  count: number,
): Promise<void> {
  const { query } = workload;
  const groups = Array.from({ length: count }, (_, tenant) =>
    Array.from({ length: TENANT_ROWS }, (__, row) => makeRow(points, tenant * TENANT_ROWS + row)),
  );
  const truth = Array.from({ length: QUERIES }, (_, index) =>
    findNearest(groups[index % count] as Row[], query(index)),
  );
  const contenders: Contender[] = [];
  for (const peer of peers) await peer.createTenants(groups);
  for (const { name, peer } of [...peers.map((peer) => ({ name: peer.name, peer })), bound]) {
    const call = (index: number) => peer.searchTenant(index % count, { vector: query(index) });
    const recall = await measureRecall(call, truth);
    if (recall < 0.99) throw new Error(`${name} finds ${recall} of the rows of its small stores.`);
    contenders.push({ name, cpuMs: peer.cpuMs, call });
  }
  await measureSpeed(workload, `${count} stores of ${TENANT_ROWS} rows`, contenders);
}
