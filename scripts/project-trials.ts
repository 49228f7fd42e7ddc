import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { createKey } from "../src/access/create-key.ts";
import { insertProject } from "../src/access/projects.ts";
import { makeIdentifier } from "../src/api/identifier.ts";
import { SCOPE_WORDS } from "../src/api/scope.ts";
import { openDatabase } from "../src/postgres/connection/pool.ts";
import type { Database } from "../src/postgres/database.ts";
import { quoteTables } from "../src/postgres/tables.ts";
import { prepareGround } from "./crash/ground.ts";
import { runProjectTrial, type Team } from "./crash/projects.ts";
import { seededRandom } from "./crash/random.ts";
import { ServicePair } from "./crash/service.ts";

const USAGE = `Lets two projects work in the same ids at the same time while the service is killed; then compares what each sees
with what it alone has done.

  node scripts/project-trials.ts [--trials 20] [--seed 1] [--steps 60] [--strikes 4] [--row-level-security on|off] [--database-url URL]
`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      trials: { type: "string", default: "20" },
      seed: { type: "string", default: "1" },
      steps: { type: "string", default: "60" },
      strikes: { type: "string", default: "4" },
      "row-level-security": { type: "string", default: "on" },
      "database-url": { type: "string" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return void process.stdout.write(USAGE);
  await using ground = await prepareGround(values["database-url"]);
  await using service = new ServicePair(
    {
      DATABASE_URL: ground.url,
      // A service that starts without any key takes calls without one, until its next start.
      SERVER_API_KEY: "of-the-environment",
      ROW_LEVEL_SECURITY: values["row-level-security"],
      NODE_COMPILE_CACHE: join(tmpdir(), "pgquiver-compile-cache"),
    },
    true,
  );
  await service.address();
  const limits = { poolMax: 2, connectTimeoutMs: 10_000, statementTimeoutMs: 60_000 };
  const database = await openDatabase({ url: ground.url, tables: quoteTables({}), ...limits });
  const total = { trials: 0, calls: 0, struck: 0, problems: 0 };
  for (let number = 0; number < Number(values.trials); number++) {
    const teams = [await makeTeam(database), await makeTeam(database)];
    const random = (stream: number) => seededRandom(Number(values.seed), number * 10 + stream);
    const trial = await runProjectTrial(
      random,
      { address: () => service.address(), strike: () => service.kill() },
      teams,
      { steps: Number(values.steps), strikes: Number(values.strikes) },
    );
    for (const problem of trial.problems) process.stderr.write(`Trial ${number}: ${problem}\n`);
    total.trials++;
    total.calls += trial.calls;
    total.struck += trial.struck;
    total.problems += trial.problems.length;
  }
  for (const line of await service.faults()) {
    process.stderr.write(`${line}\n`);
    total.problems++;
  }
  await database.close();
  process.stdout.write(`${JSON.stringify(total)}\n`);
  process.exitCode = total.problems === 0 ? 0 : 1;
}

async function makeTeam(database: Database): Promise<Team> {
  const { pool, tables } = database;
  const row = await insertProject(pool, tables, { ...makeIdentifier("proj"), name: "A team" });
  const scopes = SCOPE_WORDS.filter((word) => word !== "operator");
  const asked = {
    name: "A key",
    scopes,
    storeIds: null,
    expiresInSeconds: null,
    limits: null,
    certificateSubject: null,
  };
  return { project: row.id, key: String((await createKey(database, row, asked)).value) };
}

await main();
