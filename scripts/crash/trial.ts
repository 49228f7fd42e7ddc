import type pg from "pg";
import { load } from "./client.ts";
import type { Loaded } from "./check.ts";
import { drawMoment, Faults } from "./fault.ts";
import { drawPlan, type Plan } from "./plan.ts";
import type { Random } from "./random.ts";

/** What trials are made on. */
export interface Bench {
  /** Where the service is, as soon as it is there. */
  address: () => Promise<string>;
  /** Makes something fail and lets it come back. */
  strike: () => Promise<void>;
  /** A connection to see COMMITs by; undefined where the database cannot show them. */
  watcher: pg.Pool | undefined;
}

/** A finished trial. */
export interface Trial extends Loaded {
  /** How many faults struck while rows were loaded. */
  struck: number;
}

/** One to three clients load a store of their own, while one to three faults strike. */
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
