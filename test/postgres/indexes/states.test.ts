import pg from "pg";
import { expect, test, vi } from "vitest";
import type { Database } from "../../../src/postgres/database.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { findIndex, seedStore, startTestWorker } from "../../support/stores/index-store.ts";

/** What a store's catalogue row, its own row and its table say; each combination may be inconsistent. */
const PHASES = ["shared", "copying", "following", "cleaning", "settled"];
const POLICIES = ["auto", "always", "never"];
const DIMENSIONS = [null, 3];
const TABLES = ["none", "missing", "there"] as const;
const INDEXES = ["none", "next", "current", "same", "other"] as const;
const STATES = ["none", "waiting", "moving", "building", "ready", "failed"];

/** Statements of the worker per store, on average: 18 are usual. */
const STATEMENTS_MAX = 40;

/** Counts the statements that the worker sends: of its session on Postgres, of the pool's clients on PGlite. */
function countStatements(database: Database): { database: Database; count: () => number } {
  let statements = 0;
  class CountingClient extends pg.Client {
    override query(...parameters: never[]): never {
      statements++;
      return super.query(...(parameters as unknown as Parameters<pg.Client["query"]>)) as never;
    }
  }
  if (database.kind === "embedded") database.pool.on("acquire", () => statements++);
  const direct = database.direct && { ...database.direct, Client: CountingClient };
  return {
    database: { ...database, direct },
    count: () => statements,
  };
}

/** Makes a store in each state; every combination of what decides the next step, the rest drawn by its number. */
async function seedStates({ pool }: Database): Promise<number> {
  const draw = (n: number, seed: number, choices: number) => ((n * 2_654_435_761 + seed) >>> 7) % choices;
  let n = 0;
  for (const phase of PHASES)
    for (const policy of POLICIES)
      for (const dimensions of DIMENSIONS)
        for (const table of TABLES)
          for (const index of INDEXES) {
            n++;
            const own = table === "none" ? null : `embeddings_${900_000 + n}`;
            if (table === "there") await pool.query(`create table ${own} (like embeddings including all)`);
            const built = { name: `${own}_hnsw_1`, precision: "float16", m: 16, ef_construction: 128 };
            const current = ["current", "same", "other"].includes(index) ? built : null;
            const next = { next: built, same: built, other: { ...built, name: "b", m: 8 } }[index as string];
            await pool.query(
              `insert into vector_stores (id, dimensions, index_policy, index_state, own_table, index_precision)
               values ($1, $2, $3, $4, $5, $6)`,
              [
                `s${n}`,
                dimensions,
                policy,
                STATES[draw(n, 1, STATES.length)],
                draw(n, 2, 2) === 0 ? own : null,
                current === null ? null : "float16",
              ],
            );
            await pool.query(
              `insert into pgquiver_indexes (vector_store_id, own_table, table_oid, phase, current_index, next_index, rebuild, changed_since)
               values ($1, $2, to_regclass($2)::oid, $3, $4, $5, $6, '3')`,
              [draw(n, 3, 10) === 0 ? null : `s${n}`, own, phase, current, next ?? null, draw(n, 4, 2) === 0],
            );
          }
  return n;
}

test("does a bounded number of statements for a store, whatever the catalogue says of it", async () => {
  await using opened = await openTestDatabase();
  const { pool } = opened;
  const stores = await seedStates(opened);
  const { database, count } = countStatements(opened);
  // Nothing that has failed or waits is tried a second time within the test.
  const worker = startTestWorker(database, { pollMs: 3_600_000 });
  for (let busy = stores; busy > 0;) {
    const { rows } = await pool.query<{ due: number; current: string }>(
      `select count(*)::int as due, (array_agg(to_json(plan) order by due_since))[1]::text as current
       from pgquiver_indexes as plan where due and coalesce(retry_at <= now(), true)`,
    );
    busy = rows[0]?.due ?? 0;
    expect(count(), `${busy} stores are left, such as ${rows[0]?.current}`).toBeLessThan(
      stores * STATEMENTS_MAX,
    );
  }
  await worker.stop();
}, 180_000);

test.each(["copying", "following", "settled"])(
  "touches no shared table when a store in phase %s has lost the name of its own",
  async (phase) => {
    await using database = await openTestDatabase();
    await seedStore(database, "lost", 3);
    await database.pool.query("update vector_stores set index_policy = 'always', index_state = 'moving'");
    await database.pool.query(
      "insert into pgquiver_indexes (vector_store_id, phase, changed_since) values ('lost', $1, '3')",
      [phase],
    );
    const worker = startTestWorker(database, { pollMs: 3_600_000 });
    await vi.waitFor(async () =>
      expect(await findIndex(database, "lost")).toMatchObject({ index_state: "failed", attempts: 1 }),
    );
    expect(String(worker.errors[0])).toContain("is due without a table: the catalog's row");
    const { rows } = await database.pool.query(
      "select count(*)::int as rows, (select count(*)::int from pg_indexes where tablename = 'embeddings') as indexes from embeddings",
    );
    await using fresh = await openTestDatabase();
    const { rows: before } = await fresh.pool.query(
      "select 3 as rows, count(*)::int as indexes from pg_indexes where tablename = 'embeddings'",
    );
    expect(rows).toEqual(before);
  },
);
