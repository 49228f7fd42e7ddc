import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import pg from "pg";
import { interruption } from "../bench/support/interruption.ts";
import { prepareGround } from "./crash/ground.ts";
import { seededRandom } from "./crash/random.ts";
import { startService } from "./crash/service.ts";
import { inspectorOptions, openHeap, type Heap } from "./fuzz/heap.ts";
import { Known } from "./fuzz/known.ts";
import { loadMethods, randomRequest } from "./fuzz/requests.ts";
import { Sender } from "./fuzz/send.ts";
import { findFault } from "./fuzz/verdict.ts";

const USAGE = `Runs a mixed load over every RPC and protocol for an hour, and compares what the service holds at rest.

  node scripts/soak.ts [--minutes 60] [--seed 1] [--concurrency 4] [--database-url URL]

Requests are those of scripts/fuzz.ts, one in ten mutated. At rest, before and after, all stores and files are deleted.
Without a URL scripts/native-postgres.sh starts a Postgres for the run.
`;

interface Options {
  minutes: number;
  seed: number;
  concurrency: number;
  databaseUrl: string | undefined;
}

/** What the service holds while nobody calls. */
interface Rest {
  rssMiB: number;
  heapMiB: number;
  descriptors: number;
  databaseConnections: number;
  childProcesses: number;
}

/** How much more there may be after the load than before it. */
const GROWTH_MAX: Rest = {
  // Memory that the allocators keep for reuse.
  rssMiB: 100,
  heapMiB: 16,
  descriptors: 4,
  databaseConnections: 0,
  childProcesses: 0,
};

const MUTATED = 0.1;
const RENEWAL_REQUESTS = 50;
/** The first part of the load compiles the code and fills the caches, before the first rest. */
const WARM_UP = 0.05;
const MINUTE_MS = 60_000;
/** Idle connections to the database are closed after 10 s, reading processes after 30 s. */
const REST_MS = 45_000;
const FAULTS_MAX = 20;

async function main(): Promise<void> {
  const options = readOptions();
  await using ground = await prepareGround(options.databaseUrl);
  const inspector = await inspectorOptions();
  const service = await startService({ DATABASE_URL: ground.url, NODE_OPTIONS: inspector.options });
  const watcher = new pg.Client(ground.url);
  await watcher.connect();
  try {
    using heap = await openHeap(inspector.port);
    const load = createLoad(options, service.address);
    const rest = async () => {
      await deleteAll(service.address);
      await delay(REST_MS);
      return readRest(Number(service.process.pid), heap, watcher);
    };
    const first = await load(options.minutes * WARM_UP);
    const before = await rest();
    const second = await load(options.minutes * (1 - WARM_UP));
    const after = await rest();
    const faults = [...first.faults, ...second.faults, ...service.faults, ...compare(before, after)];
    for (const fault of faults) process.stderr.write(`${fault}\n`);
    process.stdout.write(
      `${options.minutes} minutes, ${first.sent + second.sent} requests, ${faults.length} faults, seed ${options.seed}\n` +
        `before: ${JSON.stringify(before)}\nafter:  ${JSON.stringify(after)}\n`,
    );
    process.exitCode = faults.length === 0 ? 0 : 1;
  } finally {
    await watcher.end();
    await service.end("SIGTERM");
  }
}

/** Returns a function that sends requests for some minutes; each call goes on where the one before ended. */
function createLoad({ seed, concurrency }: Options, address: string) {
  let number = 0;
  return async (minutes: number) => {
    const methods = await loadMethods();
    const known = new Known(address);
    await known.renew();
    using sender = new Sender(address);
    const faults: string[] = [];
    const startNumber = number;
    const endAt = performance.now() + minutes * MINUTE_MS;
    const run = async () => {
      while (performance.now() < endAt && faults.length < FAULTS_MAX) {
        interruption.throwIfAborted();
        if (number % RENEWAL_REQUESTS === 0) await known.renew();
        const random = seededRandom(seed, number++);
        const request = randomRequest(methods, { random, ids: known.pick(random) }, MUTATED);
        const outcome = await sender.send(request, random);
        const fault = findFault(outcome);
        if (fault !== undefined) faults.push(`${request.protocol} ${request.rpc}: ${fault}: ${outcome.text}`);
      }
    };
    await Promise.all(Array.from({ length: concurrency }, run));
    return { sent: number - startNumber, faults };
  };
}

/** Deletes all stores and files, so that what is left is the service's own. */
async function deleteAll(address: string): Promise<void> {
  for (const path of ["/v1/vector_stores", "/v1/files"]) {
    for (;;) {
      const page = (await (await fetch(`http://${address}${path}?limit=100`)).json()) as {
        data: { id: string }[];
      };
      if (page.data.length === 0) break;
      for (const { id } of page.data) {
        const reply = await fetch(`http://${address}${path}/${encodeURIComponent(id)}`, { method: "DELETE" });
        await reply.text();
        if (!reply.ok) throw new Error(`DELETE ${path}/${id} was answered ${reply.status}.`);
      }
    }
  }
}

async function readRest(pid: number, heap: Heap, watcher: pg.Client): Promise<Rest> {
  const heapMiB = toMiB(await heap.usedBytes());
  const { rows } = await watcher.query<{ count: string }>(
    "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()",
  );
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return {
    rssMiB: toMiB(Number(/^VmRSS:\s*(\d+)/m.exec(status)?.[1]) * 1024),
    heapMiB,
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    databaseConnections: Number(rows[0]?.count),
    childProcesses: readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean)
      .length,
  };
}

function compare(before: Rest, after: Rest): string[] {
  return (Object.keys(GROWTH_MAX) as (keyof Rest)[])
    .filter((name) => after[name] - before[name] > GROWTH_MAX[name])
    .map((name) => `${name} at rest grew from ${before[name]} to ${after[name]}.`);
}

function toMiB(bytes: number): number {
  return Math.round(bytes / 2 ** 20);
}

function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        minutes: { type: "string", default: "60" },
        seed: { type: "string", default: "1" },
        concurrency: { type: "string", default: "4" },
        "database-url": { type: "string" },
      },
    });
    const [minutes, seed, concurrency] = [values.minutes, values.seed, values.concurrency].map(Number) as [
      number,
      number,
      number,
    ];
    if (
      !(minutes > 0) ||
      !Number.isSafeInteger(seed) ||
      !Number.isSafeInteger(concurrency) ||
      concurrency < 1
    )
      throw new Error("--minutes, --seed and --concurrency are numbers above zero.");
    return { minutes, seed, concurrency, databaseUrl: values["database-url"] };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    process.exit(2);
  }
}

await main();
