import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { createDatabase } from "../bench/support/database.ts";
import { createPoints } from "../bench/support/points.ts";
import { startReport } from "../bench/support/report.ts";
import { startServer, type BenchServer } from "../bench/support/server.ts";
import { makeStore } from "../bench/support/store.ts";
import { measureCallers, type Experience } from "./load/callers.ts";
import { ingestApart, searches } from "./load/work.ts";

const USAGE = `Compares a service of one process with services of several, in interleaved rounds: searches at two concurrencies, alone and beside
a bulk load at full speed.

  node scripts/workers.ts [--workers 1,2] [--rounds 5] [--seconds 5] [--rows 20000]

The database is made as for the benchmarks: see bench/README.md. All run on this machine: callers, services, Postgres.
`;

const CONNECTIONS = [8, 32];
const SPREAD = { dimensions: 384, clusters: 200, seed: 1 };
const points = createPoints(SPREAD);

/** A measurement in one round. */
interface Sample extends Experience {
  /** Of the load beside; NaN: none. */
  rowsPerSecond: number;
}

async function main(): Promise<void> {
  const { workers, rounds, seconds, rows } = readOptions();
  await using database = await createDatabase();
  const report = startReport("workers", database.version);
  await using stack = new AsyncDisposableStack();
  const servers = new Map<string, BenchServer>();
  for (const count of workers)
    servers.set(count, stack.use(await startServer(database.url, { WORKERS: count })));
  const [first] = [...servers.values()] as [BenchServer];
  await makeStore(first, { id: "store", points, rows, precision: "float16" });
  const search = searches(points, "store", rows);
  const samples = new Map<string, Sample[]>();
  for (let round = 0; round <= rounds; round++) {
    for (const connections of CONNECTIONS) {
      for (const isBeside of [false, true]) {
        for (const [count, server] of servers) {
          const name = `${connections} callers${isBeside ? " beside a load" : ""}, WORKERS=${count}`;
          let rowsPerSecond = Number.NaN;
          const until = isBeside
            ? ingestApart(server, SPREAD, seconds).then((perSecond) => (rowsPerSecond = perSecond))
            : delay(seconds * 1000);
          const experience = await measureCallers(server, name, connections, until, search);
          // The first round warms up.
          if (round > 0) samples.set(name, [...(samples.get(name) ?? []), { ...experience, rowsPerSecond }]);
        }
      }
    }
  }
  const results = Array.from(samples, ([name, of]) => ({ name, of }));
  const cell = (read: (sample: Sample) => number, digits: number) => (row: { of: Sample[] }) => {
    const values = row.of.map(read).toSorted((a, b) => a - b);
    const [low, middle, high] = [0, Math.floor(values.length / 2), values.length - 1].map((place) =>
      (values[place] as number).toFixed(digits),
    );
    return Number.isNaN(values[0]) ? "" : `${middle} (${low}-${high})`;
  };
  report.add(
    `Searches of ${rows} rows of 384 dimensions, medians of ${rounds} rounds (lowest to highest)`,
    results,
    {
      "searches/s": cell(({ perSecond }) => perSecond, 0),
      "p50 ms": cell(({ searchP50Ms }) => searchP50Ms, 1),
      "p99 ms": cell(({ searchP99Ms }) => searchP99Ms, 1),
      "rows/s": cell(({ rowsPerSecond }) => rowsPerSecond, 0),
      failed: ({ of }) => String(of.reduce((sum, { failed, refused }) => sum + failed + refused, 0)),
    },
  );
  report.finish();
}

function readOptions(): { workers: string[]; rounds: number; seconds: number; rows: number } {
  try {
    const { values } = parseArgs({
      options: {
        workers: { type: "string", default: "1,2" },
        rounds: { type: "string", default: "5" },
        seconds: { type: "string", default: "5" },
        rows: { type: "string", default: "20000" },
      },
    });
    const [rounds, seconds, rows] = [values.rounds, values.seconds, values.rows].map(Number) as [
      number,
      number,
      number,
    ];
    if (
      !(seconds > 0) ||
      !Number.isSafeInteger(rows) ||
      rows < 1 ||
      !Number.isSafeInteger(rounds) ||
      rounds < 1
    )
      throw new Error("--rounds, --seconds and --rows are numbers above zero.");
    return { workers: values.workers.split(","), rounds, seconds, rows };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    process.exit(2);
  }
}

await main();
