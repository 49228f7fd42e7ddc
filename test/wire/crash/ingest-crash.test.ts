import { openAsBlob } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type pg from "pg";
import { expect, inject, onTestFinished, test } from "vitest";
import { compare } from "../../../scripts/crash/check.ts";
import { seededRandom } from "../../../scripts/crash/random.ts";
import { ServicePair } from "../../../scripts/crash/service.ts";
import { runTrial, type Trial } from "../../../scripts/crash/trial.ts";
import { openEmbedded } from "../../../src/postgres/embedded/embedded.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { TEST_LIMITS } from "../../support/databases/template.ts";

/** From which the trials are drawn; scripts/crash-trials.ts makes hundreds of them. */
const SEED = 2;

/** A database that outlives the processes of the service. */
interface Ground {
  /** How the service finds it. */
  environment: Record<string, string>;
  /** A connection beside the service; undefined where the service must be the only one. */
  watcher: pg.Pool | undefined;
  /** A connection when no service runs any more. */
  open: () => Promise<pg.Pool>;
}

async function prepare(): Promise<Ground> {
  const template = inject("template");
  if (template.kind === "postgres") {
    const database = await openTestDatabase();
    onTestFinished(() => database.close());
    return {
      environment: {
        DATABASE_URL: String(database.url),
        ...(database.citus !== undefined && { INDEX_THRESHOLD_BYTES: "20000" }),
      },
      watcher: database.pool,
      open: async () => database.pool,
    };
  }
  const directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  const snapshot = await openAsBlob(template.migrated);
  await (await openEmbedded({ directory, snapshot, ...TEST_LIMITS })).close();
  return {
    environment: { DATA_DIRECTORY: directory },
    watcher: undefined,
    async open() {
      const { pool, close } = await openEmbedded({ directory, ...TEST_LIMITS });
      onTestFinished(close);
      return pool;
    },
  };
}

test("loses and doubles no row when the service is killed twelve times in the midst of loading", async () => {
  const { environment, watcher, open } = await prepare();
  const trials: Trial[] = [];
  let struck = 0;
  {
    await using service = new ServicePair(environment, watcher !== undefined);
    const bench = { address: () => service.address(), strike: () => service.kill(), watcher };
    for (let number = 0; struck < 12; number++) {
      const trial = await runTrial(seededRandom(SEED, number), bench);
      trials.push(trial);
      struck += trial.struck;
    }
    expect(await service.faults()).toEqual([]);
  }
  const pool = await open();
  for (const [number, trial] of trials.entries()) {
    expect(await compare(pool, trial), `trial ${number} of seed ${SEED}`).toEqual({
      rowsLost: 0,
      rowsDoubled: 0,
      problems: [],
    });
  }
}, 300_000);
