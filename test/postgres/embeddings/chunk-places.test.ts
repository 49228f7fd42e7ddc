import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { expect, onTestFinished, test } from "vitest";
import type { WorkContext } from "../../../src/indexes/context.ts";
import { copyStoreRows, createTable, switchTable } from "../../../src/indexes/own-table.ts";
import { findPlan, type Plan } from "../../../src/indexes/plan.ts";
import { openSession } from "../../../src/postgres/exclusive.ts";
import { findMigrations, MIGRATIONS } from "../../../src/postgres/migrations/files.ts";
import { migrate } from "../../../src/postgres/migrations/migrate.ts";
import { placeTables } from "../../../src/postgres/tables.ts";
import { openEmptyDatabase, type TestDatabase } from "../../support/databases/database.ts";
import { findIndex, seedStore, setPolicy, startTestWorker } from "../../support/stores/index-store.ts";

/** Makes the tables as they are before places of chunks. */
async function migrateBefore(database: TestDatabase): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "pgquiver-test-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  for (const [name, file] of await findMigrations(MIGRATIONS))
    if (Number.parseInt(name, 10) < 23) await cp(file, join(directory, name));
  expect(await migrate(database, () => {}, pathToFileURL(`${directory}/`))).toEqual({ applied: 22 });
  // What moves stores here is of this version.
  await database.pool.query("create table pgquiver_words (vector_store_id text)");
}

type Step = (context: WorkContext, plan: Plan) => Promise<void>;
const create: Step = (context, plan) => createTable(context, plan, "english");
/** As the version before places of chunks did: the present one reads a table that came later. */
const clean: Step = async ({ database: { pool, tables } }, plan) => {
  await pool.query(`delete from only ${tables.embeddings} where vector_store_id = '${plan.id}'`);
  await pool.query(`alter table ${placeTables(tables, plan).embeddings} inherit ${tables.embeddings}`);
  await pool.query("update pgquiver_indexes set phase = 'settled' where vector_store_id = $1", [plan.id]);
};

/** The steps after which a store is in a phase. */
const phases: Record<string, Step[]> = {
  copying: [create],
  following: [create, copyStoreRows],
  cleaning: [create, copyStoreRows, switchTable],
  settled: [create, copyStoreRows, switchTable, clean],
};

/** Gives a store of 20 rows its own table, as far as the phase that it is named by. */
async function moveStore(database: TestDatabase, phase: string, steps: readonly Step[]): Promise<void> {
  const { pool, tables } = database;
  await seedStore(database, phase, 20);
  const { rows } = await pool.query<{ number: string }>(
    "insert into pgquiver_indexes (vector_store_id) values ($1) returning number",
    [phase],
  );
  await setPolicy(database, phase, "always");
  await using session = openSession(database);
  const context = { database, pool: session.pool, signal: session.lost };
  const find = async () => findPlan(pool, tables, rows[0]?.number ?? "");
  for (const step of steps) await step(context, (await find()) as Plan);
  expect(await find()).toMatchObject({ phase, is_stale: false });
}

test("own tables get places of chunks, and copies that are under way are begun again", async () => {
  const database = await openEmptyDatabase();
  onTestFinished(() => database.close());
  const { pool } = database;
  await migrateBefore(database);
  for (const [phase, steps] of Object.entries(phases)) await moveStore(database, phase, steps);
  const before = (await findIndex(database, "cleaning")).own_table;
  await pool.query("drop table pgquiver_words");
  await migrate(database);
  // A process of this version writes to the store while it is copied.
  for (const phase of Object.keys(phases)) {
    const own = (await findIndex(database, phase)).own_table;
    await pool.query(
      `insert into ${own === null ? "embeddings" : `"${own}"`} (vector_store_id, id, content, embedding, chunk_place)
       values ($1, 'f_0', 'a chunk', '[1,2,3]', '{"start": 0, "end": 7}')`,
      [phase],
    );
    await pool.query("update vector_stores set embedding_count = embedding_count + 1 where id = $1", [phase]);
  }
  const worker = startTestWorker(database);
  await pool.query("update pgquiver_indexes set due = true, retry_at = null");
  worker.wake();
  for (const phase of Object.keys(phases)) {
    await expect
      .poll(async () => (await findIndex(database, phase)).index_state, { timeout: 30_000 })
      .toBe("ready");
    const { own_table: own } = await findIndex(database, phase);
    const { rows } = await pool.query(
      `select count(*)::int as rows, count(chunk_place)::int as places, min((chunk_place ->> 'end')::int) as end from only "${own}"`,
    );
    expect(rows).toEqual([{ rows: 21, places: 1, end: 7 }]);
  }
  expect((await findIndex(database, "cleaning")).own_table).toBe(before);
  const { rows: all } = await pool.query(
    "select count(*)::int as places from embeddings where chunk_place is not null",
  );
  expect(all).toEqual([{ places: 4 }]);
  expect(worker.errors).toEqual([]);
});
