import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { connectRest } from "./support/clients.ts";
import { startProcess } from "./support/process.ts";
import { startReport } from "./support/report.ts";
import { median } from "./support/rounds.ts";
import { readAddress, treeCpuMs, waitUntilReady } from "./support/server.ts";

/**
 * How long `npm start` takes, on the embedded database and with the built-in model, until README's question has its
 * answer; with the argument `cold` from empty file caches (Linux, as root).
 */

const ROUNDS = 7;
/** Fewer from empty file caches, which slow down everything else on the machine. */
const COLD_ROUNDS = 3;

const ROWS = [
  "Our return policy allows returns within 30 days of purchase.",
  "Shipping is free for orders over 50 dollars.",
];
const QUESTION = "How do I get my money back?";

/** What one start took, in milliseconds. */
interface Took {
  readyMs: number;
  answerMs: number;
  cpuMs: number;
}

/** Starts the service in a directory, asks, and stops it. */
async function measure(directory: string, names: Record<string, string>): Promise<Took> {
  const begun = performance.now();
  const { PATH, HOME } = process.env;
  await using service = startProcess("npm", ["start"], {
    cwd: join(import.meta.dirname, ".."),
    env: { PATH, HOME, PORT: "0", LOG_FORMAT: "json", DATA_DIRECTORY: directory, ...names },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const log = service.output as Readable;
  const ended = service.exited.then(() =>
    Promise.reject(new Error("The service ended while it was starting.")),
  );
  const [address] = await Promise.race([Promise.all([readAddress(log), waitUntilReady(log)]), ended]);
  log.removeAllListeners("data").resume();
  const readyMs = performance.now() - begun;
  using client = connectRest({ address, key: "" });
  const post = async (path: string, body: object) =>
    client.post(`/v1/vector_stores${path}`, Buffer.from(JSON.stringify(body)));
  const store = randomUUID();
  await post("", { id: store });
  await post(`/${store}/embeddings/batch`, { embeddings: ROWS.map((content) => ({ content })) });
  const found = await post(`/${store}/search`, { query: QUESTION, max_num_results: 1 });
  if (!found.includes("return policy")) throw new Error(`A wrong answer: ${found.toString()}`);
  return { readyMs, answerMs: performance.now() - begun, cpuMs: treeCpuMs(service.pid) };
}

/** Writes what is dirty to the disk, and empties the caches of files. */
async function emptyCaches(): Promise<void> {
  execFileSync("sync");
  await writeFile("/proc/sys/vm/drop_caches", "3");
}

async function main(): Promise<void> {
  const isCold = process.argv[2] === "cold";
  const rounds = isCold ? COLD_ROUNDS : ROUNDS;
  const work = await mkdtemp(join(tmpdir(), "pgquiver-bench-"));
  // There is no template for tables of other names.
  const ways = [
    { name: "first start", names: {}, isFirst: true },
    {
      name: "first start, without a template (initdb)",
      names: { DB_TABLES__EMBEDDINGS: "chunks" },
      isFirst: true,
    },
    { name: "later start", names: {}, isFirst: false },
  ].map((way) => ({ ...way, directory: join(work, way.name), took: [] as Took[] }));
  const report = startReport("start", "embedded");
  try {
    for (let round = 0; round <= rounds; round++) {
      for (const { directory, names, isFirst, took } of ways) {
        if (isFirst) await rm(directory, { recursive: true, force: true });
        if (isCold) await emptyCaches();
        const result = await measure(directory, names);
        // The first round warms up, and makes the database of the later starts.
        if (round > 0) took.push(result);
      }
    }
  } finally {
    await rm(work, { recursive: true });
  }
  const results = ways.map(({ name, took }) => ({
    name,
    readyMs: median(took.map(({ readyMs }) => readyMs)),
    answerMs: median(took.map(({ answerMs }) => answerMs)),
    slowestMs: Math.max(...took.map(({ answerMs }) => answerMs)),
    cpuMs: median(took.map(({ cpuMs }) => cpuMs)),
  }));
  const seconds = (value: number) => (value / 1_000).toFixed(2);
  report.add(`npm start${isCold ? ", file caches empty" : ""}, ${rounds} rounds`, results, {
    "ready, s": ({ readyMs }) => seconds(readyMs),
    "first answer, s": ({ answerMs }) => seconds(answerMs),
    "slowest, s": ({ slowestMs }) => seconds(slowestMs),
    "CPU time, s": ({ cpuMs }) => seconds(cpuMs),
  });
  report.finish();
}

await main();
