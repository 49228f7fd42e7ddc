import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { createDatabase } from "../support/database.ts";
import { createPoints } from "../support/points.ts";
import { startReport } from "../support/report.ts";
import { startBare } from "./bare.ts";
import { startChroma } from "./chroma.ts";
import { createFloor } from "./floor.ts";
import { collectionOf, load } from "./load.ts";
import type { Peer } from "./peer.ts";
import { startPgquiver } from "./pgquiver.ts";
import { filters, search, tenants } from "./searching.ts";
import { addSummary } from "./summary.ts";
import { startWeaviate } from "./weaviate.ts";
import { createWorkload, type Subject } from "./workload.ts";
import { deletes, deletesByFilter, mixed } from "./writing.ts";

const USAGE = `Compares pgquiver with Weaviate and Chroma, and with plain SQL, in alternating rounds. bench/README.md says how to get the peers.

  WEAVIATE=path/to/weaviate-server CHROMA=path/to/chroma node bench/peers/main.ts
    [--rows 20000] [--loads 3] [--rounds 5] [--seconds 1] [--stores 200]
`;

const DIMENSIONS = 384;
const CLUSTERS = 100;

/** The peers by the variable that names the command of each. */
const PEERS = { WEAVIATE: startWeaviate, CHROMA: startChroma };

async function main(): Promise<void> {
  const { rows, loads, rounds, seconds, stores } = readOptions();
  await using stack = new AsyncDisposableStack();
  const database = stack.use(await createDatabase());
  const directory = await makeDirectory(stack);
  const pgquiver = await startPgquiver(database, DIMENSIONS, stack);
  const others = await startPeers(directory, stack);
  const peers: Peer[] = [pgquiver, ...others];
  const report = startReport("peers", database.version);
  for (const { name, settings } of peers) print(`${name}: ${settings}`);

  const points = createPoints({ dimensions: DIMENSIONS, clusters: CLUSTERS, seed: 1 });
  const workload = createWorkload(points, { rowCount: rows, rounds, seconds, report });
  // pgquiver's last but one collection gets the declared attribute.
  await load(workload, peers, { loads, kept: (peer) => (peer === pgquiver ? 2 : 1) });
  const collection = collectionOf(loads - 1);
  const subjects = peers.map((peer): Subject => ({ name: peer.name, peer, collection }));
  const floor = await createFloor(database, collection);

  const declared = {
    name: "pgquiver, attribute declared",
    peer: pgquiver,
    collection: collectionOf(loads - 2),
  };
  const bare = await startBare(database, declared.collection, pgquiver, stack);
  const choices = await search(workload, [...subjects, bare, floor]);
  await pgquiver.declarePosition(declared.collection);
  const unfiltered = new Map(choices).set(declared.name, choices.get(pgquiver.name) ?? { ef: 0, recall: 0 });
  await filters(workload, [declared, ...subjects, bare], unfiltered);
  // From here on pgquiver does not use that collection any more: see `startBare`.
  await mixed(workload, [...subjects, bare]);
  await deletes(workload, [...subjects, bare]);
  await deletesByFilter(workload, subjects);
  await tenants(workload, peers, bare, points, stores);

  addSummary(report, `${rows} rows of ${DIMENSIONS} dimensions`, workload.lines, {
    ours: pgquiver.name,
    declared: declared.name,
    peers: others.map(({ name }) => name),
    floors: [bare.name, floor.name],
  });
  report.finish();
}

/** Starts the peers whose commands are given, and says which are left out. */
async function startPeers(directory: string, stack: AsyncDisposableStack): Promise<Peer[]> {
  const started: Peer[] = [];
  for (const [variable, start] of Object.entries(PEERS)) {
    const command = process.env[variable];
    if (command === undefined || !existsSync(command)) {
      print(`${command ?? variable} is not there, so that peer is left out: see bench/README.md.`);
      continue;
    }
    started.push(await start(resolve(command), join(directory, variable.toLowerCase()), stack));
  }
  return started;
}

/**
 * Makes the directory for the peers' data, in memory where that is possible: the Postgres that scripts/native-postgres.sh
 * starts keeps its data there too, so that a commit costs nobody a disk.
 */
async function makeDirectory(stack: AsyncDisposableStack): Promise<string> {
  const base = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
  const directory = await mkdtemp(join(base, "pgquiver-peers-"));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

function readOptions(): Record<"rows" | "loads" | "rounds" | "seconds" | "stores", number> {
  try {
    const { values } = parseArgs({
      options: {
        rows: { type: "string", default: "20000" },
        loads: { type: "string", default: "3" },
        rounds: { type: "string", default: "5" },
        seconds: { type: "string", default: "1" },
        stores: { type: "string", default: "200" },
      },
    });
    const [rows, loads, rounds, stores] = [values.rows, values.loads, values.rounds, values.stores].map(
      Number,
    ) as [number, number, number, number];
    const seconds = Number(values.seconds);
    if (![rows, loads, rounds, stores].every(Number.isSafeInteger) || rows < 1_000 || loads < 2)
      throw new Error("--rows is at least 1000, --loads at least 2.");
    if (rounds < 1 || stores < 1 || !(seconds > 0)) throw new Error("Numbers are above zero.");
    return { rows, loads, rounds, seconds, stores };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    process.exit(2);
  }
}

function print(line: string): void {
  process.stderr.write(`${line}\n`);
}

await main();
