import { parseArgs } from "node:util";
import { startService } from "./crash/service.ts";
import { makeCluster, type Cluster } from "./failover/cluster.ts";
import { Load } from "./failover/load.ts";

const USAGE = `Kills a node of a Citus cluster under writes and searches, promotes its standby, and compares every row.

  node scripts/citus-failover.ts --cluster COORDINATOR,WORKER,WORKER --standby URL [--node 1] [--mode synchronous|asynchronous|cut|replica]

URLs are of servers of this machine with Citus and pgvector, as superuser. --standby is a streaming standby of the node with that
number, 0 being the coordinator. The script changes synchronous_standby_names there, kills that server (SIGKILL) for good, and promotes the
standby, so both are used up. "cut" stops the standby from receiving before, as a broken network does. "replica" kills nothing: searches use the
standby of node 0 as a read replica, and each row is searched for as soon as it is acknowledged.
`;

const MODES = ["synchronous", "asynchronous", "cut", "replica"];

/** How long each part goes on: before the kill, with the node down, and after the promotion. */
const PART_MS = 4_000;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      cluster: { type: "string" },
      standby: { type: "string" },
      node: { type: "string", default: "1" },
      mode: { type: "string", default: "synchronous" },
    },
  });
  const { cluster: urls, standby, mode } = values;
  const number = Number(values.node);
  if (urls === undefined || standby === undefined || !MODES.includes(mode)) {
    process.stderr.write(USAGE);
    process.exitCode = 2;
    return;
  }
  const cluster = await makeCluster(urls.split(","), standby, number);
  const service = await startService({
    DATABASE_URL: cluster.serviceUrl,
    CITUS: "auto",
    INDEX_THRESHOLD_BYTES: "1",
    ...(mode === "replica" && { DATABASE_REPLICA_URLS: cluster.standbyUrl }),
  });
  try {
    // While other calls write a store, its searches seldom use a standby.
    const writers = mode === "replica" ? 1 : 4;
    const load = new Load(`http://${service.address}`, cluster, writers);
    const stores = await load.makeStores();
    await cluster.replicate(mode === "synchronous");
    load.start();
    await load.pass(PART_MS);
    if (mode !== "replica") await failOver(cluster, load, mode === "cut");
    await load.stop();
    process.stdout.write(`${load.report()}\n`);
    const problems = await load.compare();
    const asked = mode === "replica" ? `, ${await cluster.countSearches()} statements on the standby` : "";
    process.stdout.write(`${mode}, node ${number}, ${stores} stores: ${problems.join("; ")}${asked}\n`);
    for (const fault of service.faults) process.stdout.write(`${fault}\n`);
  } finally {
    await service.end("SIGTERM");
    await cluster.close();
  }
}

async function failOver(cluster: Cluster, load: Load, isCut: boolean): Promise<void> {
  if (isCut) {
    await cluster.cutStandby();
    await load.pass(1_000);
  }
  load.note("killed");
  await cluster.kill();
  await load.pass(PART_MS);
  const promoted = await timed(() => cluster.promote());
  load.note(`promoted in ${promoted} ms`);
  const updated = await timed(() => cluster.update());
  load.note(`updated in ${updated} ms`);
  await load.untilWritten();
  await load.pass(PART_MS);
}

async function timed(work: () => Promise<void>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return Math.round(performance.now() - startedAt);
}

await main();
