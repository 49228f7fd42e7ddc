import { expect, inject, onTestFinished, test } from "vitest";
import { runFileTrial, uploadFiles } from "../../../scripts/crash/files.ts";
import { seededRandom } from "../../../scripts/crash/random.ts";
import { ServicePair } from "../../../scripts/crash/service.ts";
import { openTestDatabase } from "../../support/databases/database.ts";

/** From which the trial is drawn; scripts/file-crash-trials.ts makes hundreds of them. */
const SEED = 3;

/** Two processes at a time need a database that is not embedded. */
test.runIf(inject("template").kind === "postgres")(
  "of two replicas that are killed while files are processed, no file is lost, halved or doubled",
  async () => {
    const database = await openTestDatabase();
    onTestFinished(() => database.close());
    const environment = { DATABASE_URL: String(database.url) };
    await using one = new ServicePair(environment, false);
    await one.address();
    await using other = new ServicePair(environment, false);
    const replicas = [one, other];
    const files = await uploadFiles(await one.address(), seededRandom(SEED), 25);
    let turn = 0;
    const trial = await runFileTrial(
      seededRandom(SEED),
      {
        address: () => (replicas[turn++ % 2] as ServicePair).address(),
        strike: (random) => random.pick(replicas).kill(),
        pool: database.pool,
      },
      files,
    );
    expect(trial).toEqual({ struck: expect.any(Number), failed: 0, problems: [] });
    expect(trial.struck).toBeGreaterThan(0);
    expect([...(await one.faults()), ...(await other.faults())]).toEqual([]);
  },
  300_000,
);
