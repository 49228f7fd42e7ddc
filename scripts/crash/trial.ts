import type pg from "pg";
import { load } from "./client.ts";
import type { Loaded } from "./check.ts";
import { drawMoment, Faults } from "./fault.ts";
import { drawPlan, type Plan } from "./plan.ts";
import type { Random } from "./random.ts";

/** The environment of trials. */
export interface Bench {
  /** Resolves to the service's address once it listens. */
  address: () => Promise<string>;
  /** Crashes the service or Postgres, and restarts it. */
  strike: () => Promise<void>;
  /**
   * Connections for polling pg_stat_activity; undefined where the database cannot show COMMITs in progress.
   */
  watcher: pg.Pool | undefined;
}

/** A finished trial. */
export interface Trial extends Loaded {
  /** Number of faults during the load. */
  struck: number;
}

/** One to three clients load a new store, while one to three faults strike. */
export async function runTrial(random: Random, bench: Bench): Promise<Trial> {
  const plans: Plan[] = Array.from({ length: random.integer(1, 3) }, (_, client) =>
    drawPlan(random, `c${client}`),
  );
  const moments = Array.from({ length: random.pick([1, 1, 1, 2, 3]) }, () =>
    drawMoment(random, bench.watcher !== undefined),
  );
  const storeId = await createStore(await bench.address());
  const faults = new Faults(moments, bench.strike, bench.watcher);
  try {
    const summaries = await Promise.all(plans.map((plan) => load(bench.address, storeId, plan, faults)));
    return {
      storeId,
      plans: plans.map((plan, index) => ({ plan, summary: summaries[index] as (typeof summaries)[number] })),
      get struck() {
        return faults.struck;
      },
    };
  } finally {
    await faults.end();
  }
}

async function createStore(address: string): Promise<string> {
  const reply = await fetch(`http://${address}/v1/vector_stores`, { method: "POST" });
  if (!reply.ok) throw new Error(`Cannot create a store: ${await reply.text()}`);
  return ((await reply.json()) as { id: string }).id;
}
