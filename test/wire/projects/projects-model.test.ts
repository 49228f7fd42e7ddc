import { expect, inject, onTestFinished, test } from "vitest";
import { runProjectTrial } from "../../../scripts/crash/projects.ts";
import { seededRandom } from "../../../scripts/crash/random.ts";
import { ServicePair } from "../../../scripts/crash/service.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { makeProject, makeTestKey } from "../../support/stores/keys.ts";

/** From which the trial is drawn; scripts/project-trials.ts makes many of them. */
const SEED = 5;

/** Two processes at a time need a database that is not embedded. */
test.runIf(inject("template").kind === "postgres")(
  "two projects that work in the same ids at the same time, while the service is killed, never meet",
  async () => {
    const database = await openTestDatabase();
    onTestFinished(() => database.close());
    const teams = [];
    for (let team = 0; team < 2; team++) {
      const project = await makeProject(database);
      teams.push({ project, key: await makeTestKey(database, project) });
    }
    await using service = new ServicePair(
      {
        DATABASE_URL: String(database.url),
        FILE_WORKERS: "1",
        // A cluster has no row-level security.
        ...(database.citus === undefined && { ROW_LEVEL_SECURITY: "on" }),
      },
      true,
    );
    await service.address();
    const ground = { address: () => service.address(), strike: () => service.kill() };
    const trial = await runProjectTrial((stream) => seededRandom(SEED, stream), ground, teams, {
      steps: 40,
      strikes: 3,
    });
    expect(trial).toEqual({ calls: expect.any(Number), struck: 3, problems: [] });
    expect(await service.faults()).toEqual([]);
  },
  300_000,
);
