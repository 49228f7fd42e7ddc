import { once } from "node:events";
import pg from "pg";
import { afterAll, expect, test, vi } from "vitest";
import { promoteStore, startIndexWorker } from "../../../src/indexes/worker.ts";
import type { Database } from "../../../src/postgres/database.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import {
  countByTable,
  findIndex,
  findLeftovers,
  seedStore,
  TEST_INDEXES,
} from "../../support/stores/index-store.ts";
import { readTexts, removeTexts, writeTexts } from "../../support/databases/placed-rows.ts";

const database = await openTestDatabase();
afterAll(() => database.close());
const { pool } = database;

/** Which statements break, one in so many. */
const STRIDE = Number(process.env["FAULT_STRIDE"] ?? 3);

/** The same database for a worker whose connection breaks at the n-th statement that it sends, before or after. */
function breakingAt(number: number): { database: Database; broken: Promise<unknown> } {
  const breaking = new EventTarget();
  const broken = once(breaking, "broken");
  let sent = 0;
  class BreakingClient extends pg.Client {
    constructor(config?: pg.ClientConfig) {
      super(config);
      const send = this.query.bind(this) as (...parameters: unknown[]) => unknown;
      const query = (...parameters: unknown[]) => {
        if (++sent === number) this.#break();
        return send(...parameters);
      };
      Object.assign(this, { query });
    }

    #break(): void {
      const { stream } = (this as unknown as { connection: { stream: { destroy: () => void } } }).connection;
      const cut = () => {
        stream.destroy();
        breaking.dispatchEvent(new Event("broken"));
      };
      if (number % 2 === 0) cut();
      else setImmediate(cut);
    }
  }
  return {
    database: { ...database, direct: { ...database.direct, Client: BreakingClient } as never },
    broken,
  };
}

async function untilDone(id: string, state: string): Promise<void> {
  await vi.waitFor(
    async () => expect(await findIndex(database, id)).toMatchObject({ index_state: state, due: false }),
    {
      timeout: 60_000,
      interval: 10,
    },
  );
}

/** Runs a worker whose connection breaks at the n-th statement; false when it was done before. */
async function runBroken(id: string, number: number, state: string): Promise<boolean> {
  const { database: breaking, broken } = breakingAt(number);
  // Not much longer: the server may still hold the lock of the worker before, and then this one tries again after that time.
  const worker = startIndexWorker(breaking, { ...TEST_INDEXES, pollMs: 1_000 }, () => {});
  const done = untilDone(id, state).then(() => false);
  // After the break it never comes.
  done.catch(() => {});
  const isBroken = await Promise.race([broken.then(() => true), done]);
  await worker.stop();
  return isBroken;
}

async function request(id: string, change: string): Promise<void> {
  await pool.query(`update vector_stores set ${change} where id = $1`, [id]);
  await pool.query(
    "update pgquiver_indexes set due = true, rebuild = current_index is not null, retry_at = null where vector_store_id = $1",
    [id],
  );
}

/** Breaks the connection at one statement after the other until the work is done without; expects the same in the end each time. */
async function breakEverywhere(
  prepare: (id: string) => Promise<void>,
  change: string,
  state: string,
): Promise<number> {
  for (let number = 1; ; number += STRIDE) {
    const id = `store ${change} ${number}`;
    await seedStore(database, id, 30);
    await prepare(id);
    await request(id, change);
    const model = await readTexts(database, id);
    const isBroken = await runBroken(id, number, state);
    expect(await readTexts(database, id), `after statement ${number}`).toEqual(model);
    for (const [key, text] of [
      ["e1", "changed"],
      ["e01", "new"],
      ["f", "new"],
    ] as const)
      model.set(key, text);
    await writeTexts(
      database,
      id,
      new Map([
        ["e1", "changed"],
        ["e01", "new"],
        ["f", "new"],
      ]),
    );
    model.delete("e2");
    await removeTexts(database, id, ["e2"]);
    const worker = startIndexWorker(database, TEST_INDEXES, () => {});
    await untilDone(id, state);
    await worker.stop();
    expect(await readTexts(database, id), `after statement ${number} and the rest`).toEqual(model);
    const { own_table: table } = await findIndex(database, id);
    expect(await countByTable(database, id)).toEqual({ [table ?? "embeddings"]: 31 });
    const { tables, indexes } = await findLeftovers(database);
    expect(tables).toEqual(table === null ? [] : [table]);
    expect(indexes).toEqual(state === "ready" ? [expect.stringMatching(/_hnsw_\d+$/)] : []);
    await pool.query("delete from vector_stores where id = $1", [id]);
    await pool.query("delete from only embeddings where vector_store_id = $1", [id]);
    await pool.query("delete from pgquiver_indexes");
    if (table !== null) await pool.query(`drop table "${table}"`);
    if (!isBroken) return number;
  }
}

const promote = (id: string) => promoteStore(database, id, TEST_INDEXES);

test.runIf(database.kind === "postgres").each([
  {
    task: "making a table and an index",
    prepare: async () => {},
    change: "index_policy = 'always'",
    state: "ready",
    least: 60,
  },
  { task: "replacing an index", prepare: promote, change: "precision = 'binary'", state: "ready", least: 20 },
  { task: "dropping an index", prepare: promote, change: "index_policy = 'never'", state: "none", least: 12 },
])(
  "goes on where it was cut off, at whichever statement of $task",
  async ({ prepare, change, state, least }) => {
    expect(await breakEverywhere(prepare, change, state)).toBeGreaterThan(least);
  },
  300_000,
);
