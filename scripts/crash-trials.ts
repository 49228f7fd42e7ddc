import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import pg from "pg";
import { onConnect } from "../src/postgres/connection/vector-types.ts";
import { compare } from "./crash/check.ts";
import { crashCluster, prepareGround } from "./crash/ground.ts";
import { seededRandom } from "./crash/random.ts";
import { ServicePair } from "./crash/service.ts";
import { runTrial, type Bench } from "./crash/trial.ts";

const USAGE = `Kills the service, or Postgres, while rows are loaded; then checks every row.

  node scripts/crash-trials.ts [--fault service|postgres] [--trials 200] [--first 0] [--seed 1] [--database-url URL]

The seed and the trial's number determine what is loaded, how, and when faults strike; timing still differs from
run to run. --first starts with a later trial. Without a URL, and always with --fault postgres,
scripts/native-postgres.sh starts a Postgres for the run.
`;

interface Options {
  fault: "service" | "postgres";
  trials: number;
  first: number;
  seed: number;
  databaseUrl: string | undefined;
}

const SECOND_MS = 1000;

async function main(): Promise<void> {
  const options = readOptions();
  await using ground = await prepareGround(options.fault === "postgres" ? undefined : options.databaseUrl);
  await using service = new ServicePair(
    { DATABASE_URL: ground.url, NODE_COMPILE_CACHE: join(tmpdir(), "pgquiver-compile-cache") },
    options.fault === "service",
  );
  await service.address();
  const pool = new pg.Pool({ connectionString: ground.url, onConnect });
  // Faults break pooled connections; an `error` event without a listener would end this process.
  pool.on("error", () => {});
  await slowCommits(pool);
  const bench: Bench = {
    address: () => service.address(),
    strike: options.fault === "service" ? () => service.kill() : () => crashCluster(ground),
    watcher: pool,
  };
  try {
    process.exitCode = (await runTrials(options, bench, service, pool)) ? 0 : 1;
  } finally {
    await pool.end();
  }
}

/** Runs the trials; true when no row was lost or doubled, and no counter is wrong. */
async function runTrials(
  { seed, first, trials, fault }: Options,
  bench: Bench,
  service: ServicePair,
  pool: pg.Pool,
): Promise<boolean> {
  const total = { rows: 0, acknowledged: 0, struck: 0, rowsLost: 0, rowsDoubled: 0, problems: 0 };
  const startedAt = performance.now();
  for (let trial = first; trial < first + trials; trial++) {
    const loaded = await runTrial(seededRandom(seed, trial), bench).catch((error: unknown) => {
      throw new Error(`Trial ${trial} of seed ${seed} did not finish: ${(error as Error).message}`, {
        cause: error,
      });
    });
    const { rowsLost, rowsDoubled, problems } = await compare(pool, loaded);
    for (const problem of problems)
      process.stderr.write(`Trial ${trial} of seed ${seed}, ${loaded.storeId}: ${problem}\n`);
    total.rows += loaded.plans.reduce((sum, { summary }) => sum + Number(summary.rowsWritten), 0);
    total.struck += loaded.struck;
    total.rowsLost += rowsLost;
    total.rowsDoubled += rowsDoubled;
    total.problems += problems.length;
    if (trial % 20 === 19) process.stderr.write(`${trial + 1 - first} trials, ${total.struck} faults\n`);
  }
  for (const line of await service.faults()) {
    total.problems++;
    process.stderr.write(`The service logged an internal error: ${line}\n`);
  }
  const perSecond = ((trials / (performance.now() - startedAt)) * SECOND_MS).toFixed(1);
  process.stdout.write(
    `${trials} trials, ${total.rowsLost} rows lost, ${total.rowsDoubled} doubled, seed ${seed}: ` +
      `${total.struck} ${fault} faults, ${total.rows} rows written, ${total.problems} problems, ${perSecond} trials/s\n`,
  );
  return total.problems === 0;
}

/**
 * Slows some COMMITs of ingests by up to 30 ms, so that a fault can hit a COMMIT in progress. A deferred
 * constraint trigger runs inside of COMMIT.
 */
async function slowCommits(pool: pg.Pool): Promise<void> {
  await pool.query(`
    create function slow_commit() returns trigger language plpgsql as $$
    begin
      if random() < 0.3 then perform pg_sleep(random() * 0.03); end if;
      return null;
    end $$;
    create constraint trigger slow_commit after update on pgquiver_ingests
      deferrable initially deferred for each row execute function slow_commit()`);
}

function readOptions(): Options {
  try {
    const { values } = parseArgs({
      options: {
        fault: { type: "string", default: "service" },
        trials: { type: "string", default: "200" },
        first: { type: "string", default: "0" },
        seed: { type: "string", default: "1" },
        "database-url": { type: "string" },
      },
    });
    const { fault } = values;
    if (fault !== "service" && fault !== "postgres") throw new Error(`There is no fault '${fault}'.`);
    const [trials, first, seed] = [values.trials, values.first, values.seed].map(Number) as [
      number,
      number,
      number,
    ];
    if (![trials, first, seed].every(Number.isSafeInteger)) throw new Error("Expected integers.");
    return { fault, trials, first, seed, databaseUrl: values["database-url"] };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    process.exit(2);
  }
}

await main();
