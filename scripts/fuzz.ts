import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { interruption } from "../bench/support/interruption.ts";
import { prepareGround } from "./crash/ground.ts";
import { seededRandom } from "./crash/random.ts";
import { startService } from "./crash/service.ts";
import { inspectorOptions, openHeap } from "./fuzz/heap.ts";
import { Known } from "./fuzz/known.ts";
import { loadMethods, randomRequest } from "./fuzz/requests.ts";
import { Sender } from "./fuzz/send.ts";
import { findFault, isSuccess } from "./fuzz/verdict.ts";

const USAGE = `Sends random requests to a service of its own, over every protocol, and looks for what no request may cause.

  node scripts/fuzz.ts [--requests 20000] [--first 0] [--seed 1] [--concurrency 16] [--database-url URL]

Requests are made from the protos and changed at random: values, JSON, bytes, headers, paths. The seed and the number
of a request determine it, but for the ids of what exists. A fault is a status of 500 or above but 501, a code such as INTERNAL, a
connection lost, no answer within 20 seconds, a process that ended, an error in its log, or a heap that does not return.
Each minute, and at each fault, a line says how far the run is. Ctrl-C ends it with the result so far.
Without a URL scripts/native-postgres.sh starts a Postgres for the run.
`;

/** How long what callers have left, such as large replies, may stay in the heap after the last request. */
const REST_SECONDS = 60;
/** A heap may be larger at the end than when a tenth of the requests were done: caches fill, code is compiled. */
const HEAP_GROWTH_MAX_BYTES = 48 * 2 ** 20;
const MIB = 2 ** 20;
/** After so many requests there is a new store with rows and a file. */
const RENEWAL_REQUESTS = 50;
const FAULTS_MAX = 50;
/** The others are valid, so that there is something to find. */
const MUTATED = 0.7;
const SECOND_MS = 1000;
const MINUTE_MS = 60 * SECOND_MS;

interface Options {
  requests: number;
  first: number;
  seed: number;
  concurrency: number;
  databaseUrl: string | undefined;
}

interface Tally {
  sent: number;
  succeeded: number;
}

/** What no request may cause; each fault is printed when it is found. */
class Faults {
  count = 0;

  add(fault: string): void {
    this.count++;
    print(fault);
  }
}

async function main(): Promise<void> {
  const options = readOptions();
  await using ground = await prepareGround(options.databaseUrl);
  const inspector = await inspectorOptions();
  const service = await startService({ DATABASE_URL: ground.url, NODE_OPTIONS: inspector.options });
  try {
    using heap = await openHeap(inspector.port);
    const faults = new Faults();
    await fuzz(options, service.address, () => heap.usedBytes(), faults);
    if (service.process.exitCode !== null) faults.add(`The service ended with ${service.process.exitCode}.`);
    for (const line of service.faults) faults.add(`The service logged: ${line}`);
    process.exitCode = faults.count === 0 ? 0 : 1;
  } finally {
    await service.end("SIGTERM");
  }
}

/** Bytes of the heap as soon as they are at most `bytesMax`, else after a while. */
async function heapAtRest(heapBytes: () => Promise<number>, bytesMax: number): Promise<number> {
  for (let second = 0; ; second++) {
    const bytes = await heapBytes();
    if (bytes <= bytesMax || second === REST_SECONDS) return bytes;
    await delay(SECOND_MS);
  }
}

/** Sends all requests, and adds the faults found. */
async function fuzz(
  options: Options,
  address: string,
  heapBytes: () => Promise<number>,
  faults: Faults,
): Promise<void> {
  const { requests, first, seed, concurrency } = options;
  const methods = await loadMethods();
  const known = new Known(address);
  for (let store = 0; store < 6; store++) await known.renew();
  using sender = new Sender(address);
  const tallies = new Map<string, Tally>();
  let next = first;
  const end = (part: number) => first + Math.round(requests * part);
  const run = async (last: number) => {
    while (next < last && faults.count < FAULTS_MAX && !interruption.aborted) {
      const number = next++;
      if (number % RENEWAL_REQUESTS === 0) await known.renew();
      const random = seededRandom(seed, number);
      const request = randomRequest(methods, { random, ids: known.pick(random) }, MUTATED);
      const outcome = await sender.send(request, random);
      const tally = tallies.get(request.protocol) ?? { sent: 0, succeeded: 0 };
      tallies.set(request.protocol, tally);
      tally.sent++;
      if (isSuccess(outcome)) tally.succeeded++;
      const fault = findFault(outcome);
      if (fault === undefined) continue;
      faults.add(
        `Request ${number} of seed ${seed}, ${request.protocol} ${request.rpc}: ${fault}: ${request.verb} ${request.path} ` +
          `${JSON.stringify(request.headers)} ${JSON.stringify(request.body.subarray(0, 300).toString("latin1"))} -> ${JSON.stringify(outcome.text.slice(0, 500))}`,
      );
    }
  };
  const progress = () => `${next - first} of ${requests} requests, ${faults.count} faults`;
  using reporter = new DisposableStack();
  reporter.adopt(
    setInterval(() => print(progress()), MINUTE_MS),
    clearInterval,
  );
  const all = (last: number) => Promise.all(Array.from({ length: concurrency }, () => run(last)));
  const startedAt = performance.now();
  await all(end(0.1));
  const before = await heapBytes();
  await all(end(1));
  const perSecond = Math.round((next - first) / ((performance.now() - startedAt) / SECOND_MS));
  const after = await heapAtRest(heapBytes, before + HEAP_GROWTH_MAX_BYTES);
  if (after - before > HEAP_GROWTH_MAX_BYTES)
    faults.add(`The heap grew from ${mib(before)} to ${mib(after)} MiB.`);
  for (const [protocol, { sent, succeeded }] of tallies) {
    process.stdout.write(`${protocol}: ${sent} requests, ${succeeded} succeeded\n`);
    // A protocol without success tests nothing but its first check.
    if (requests >= 1_000 && succeeded === 0) faults.add(`No request over ${protocol} succeeded.`);
  }
  process.stdout.write(
    `${next - first} requests, ${faults.count} faults, seed ${seed}: ${perSecond} requests/s, heap ${mib(before)} to ${mib(after)} MiB\n`,
  );
}

function print(line: string): void {
  process.stderr.write(`${line}\n`);
}

function mib(bytes: number): number {
  return Math.round(bytes / MIB);
}

function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        requests: { type: "string", default: "20000" },
        first: { type: "string", default: "0" },
        seed: { type: "string", default: "1" },
        concurrency: { type: "string", default: "16" },
        "database-url": { type: "string" },
      },
    });
    const numbers = [values.requests, values.first, values.seed, values.concurrency].map(Number);
    if (!numbers.every((number) => Number.isSafeInteger(number) && number >= 0))
      throw new Error("--requests, --first, --seed and --concurrency are whole numbers.");
    const [requests, first, seed, concurrency] = numbers as [number, number, number, number];
    return { requests, first, seed, concurrency, databaseUrl: values["database-url"] };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    process.exit(2);
  }
}

await main();
