import { median } from "../support/rounds.ts";
import type { Peer } from "./peer.ts";
import type { Workload } from "./workload.ts";

/** The collection into which a round of the load writes. */
export function collectionOf(round: number): string {
  return `Load_${round}`;
}

/**
 * Loads the rows into a new collection of each peer in every round. Collections are dropped, except those of the last
 * `kept` rounds.
 */
export async function load(
  { rows, report, lines, query }: Workload,
  peers: readonly Peer[],
  { loads, kept }: { loads: number; kept: (peer: Peer) => number },
): Promise<void> {
  const times = new Map(
    peers.map((peer) => [peer, { acknowledged: [] as number[], searchable: [] as number[] }]),
  );
  for (let round = 0; round < loads; round++) {
    for (const [peer, { acknowledged, searchable }] of times) {
      const collection = collectionOf(round);
      await peer.createCollection(collection);
      const send = peer.prepareLoad(collection, rows);
      const startedAt = performance.now();
      await send();
      acknowledged.push((performance.now() - startedAt) / 1000);
      await peer.awaitIndex(collection, { vector: query(0) });
      searchable.push((performance.now() - startedAt) / 1000);
      if (round < loads - kept(peer)) await peer.dropCollection(collection);
    }
  }
  const results = Array.from(times, ([{ name }, { acknowledged, searchable }]) => ({
    name,
    perSecond: rows.length / median(acknowledged),
    seconds: median(searchable),
  }));
  report.add(`Load of ${rows.length} rows, medians of ${loads}`, results, {
    "rows/s": ({ perSecond }) => perSecond.toFixed(0),
    "searchable by index after s": ({ seconds }) => seconds.toFixed(2),
  });
  lines.push({
    name: "bulk load, rows/s",
    better: "more",
    values: new Map(results.map(({ name, perSecond }) => [name, perSecond])),
    digits: 0,
  });
  lines.push({
    name: "until all is searchable by index, s",
    better: "less",
    values: new Map(results.map(({ name, seconds }) => [name, seconds])),
    digits: 2,
  });
}
