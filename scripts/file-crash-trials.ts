import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import pg from "pg";
import { runFileTrial, uploadFiles, type FileBench } from "./crash/files.ts";
import { crashCluster, prepareGround } from "./crash/ground.ts";
import { seededRandom, type Random } from "./crash/random.ts";
import { ServicePair } from "./crash/service.ts";

const USAGE = `Kills two replicas of the service, or Postgres, while files are processed; then checks every chunk.

  node scripts/file-crash-trials.ts [--fault service|postgres] [--trials 50] [--first 0] [--seed 1] [--files 50] [--database-url URL]

The seed and the trial's number determine which files are removed and when faults strike; timing still differs from
run to run. Without a URL, and always with --fault postgres, scripts/native-postgres.sh starts a Postgres for the
run.
`;

async function main(): Promise<void> {
  const { fault, trials, first, seed, files: fileCount, databaseUrl } = readOptions();
  await using ground = await prepareGround(fault === "postgres" ? undefined : databaseUrl);
  const environment = {
    DATABASE_URL: ground.url,
    NODE_COMPILE_CACHE: join(tmpdir(), "pgquiver-compile-cache"),
    LOG_LEVEL: "info",
  };
  await using one = new ServicePair(environment, false);
  await one.address();
  await using other = new ServicePair(environment, false);
  const replicas = [one, other];
  const pool = new pg.Pool({ connectionString: ground.url });
  // Faults break pooled connections; an `error` event without a listener would end this process.
  pool.on("error", () => {});
  let turn = 0;
  const bench: FileBench = {
    address: () => (replicas[turn++ % replicas.length] as ServicePair).address(),
    strike: (random: Random) => (fault === "postgres" ? crashCluster(ground) : random.pick(replicas).kill()),
    pool,
  };
  const files = await uploadFiles(await one.address(), seededRandom(seed), fileCount);
  const chunks = files.reduce((sum, file) => sum + file.chunks.length, 0);
  process.stderr.write(`${files.length} files of ${chunks} chunks\n`);
  const total = { struck: 0, failed: 0, problems: 0 };
  for (let trial = first; trial < first + trials; trial++) {
    const { struck, failed, problems } = await runFileTrial(seededRandom(seed, trial), bench, files);
    for (const problem of problems) process.stderr.write(`Trial ${trial} of seed ${seed}: ${problem}\n`);
    total.struck += struck;
    total.failed += failed;
    total.problems += problems.length;
    if (trial % 10 === 9) process.stderr.write(`${trial + 1 - first} trials, ${total.struck} faults\n`);
  }
  for (const line of [...(await one.faults()), ...(await other.faults())]) {
    total.problems++;
    process.stderr.write(`The service logged an internal error: ${line}\n`);
  }
  await pool.end();
  process.stdout.write(
    `${trials} trials of ${files.length} files, seed ${seed}: ${total.struck} ${fault} faults, ` +
      `${total.failed} files given up, ${total.problems} problems\n`,
  );
  process.exitCode = total.problems === 0 ? 0 : 1;
}

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        fault: { type: "string", default: "service" },
        trials: { type: "string", default: "50" },
        first: { type: "string", default: "0" },
        seed: { type: "string", default: "1" },
        files: { type: "string", default: "50" },
        "database-url": { type: "string" },
      },
    });
    const { fault } = values;
    if (fault !== "service" && fault !== "postgres") throw new Error(`There is no fault '${fault}'.`);
    const integer = (text: string) => {
      if (!Number.isSafeInteger(Number(text))) throw new Error(`Expected an integer, but got '${text}'.`);
      return Number(text);
    };
    return {
      fault,
      trials: integer(values.trials),
      first: integer(values.first),
      seed: integer(values.seed),
      files: integer(values.files),
      databaseUrl: values["database-url"],
    };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    process.exit(2);
  }
}

await main();
