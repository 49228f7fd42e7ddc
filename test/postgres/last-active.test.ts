import { afterAll, expect, test } from "vitest";
import { LastActiveUpdater } from "../../src/search/last-active.ts";
import { openTestDatabase } from "../support/databases/database.ts";

const database = await openTestDatabase();
const { pool, tables } = database;
afterAll(() => database.close());

async function makeStores(...ids: string[]): Promise<void> {
  await pool.query("insert into vector_stores (id, last_active_at) select unnest($1::text[]), '2020-01-01'", [
    ids,
  ]);
}

async function readYear(id: string): Promise<number> {
  const { rows } = await pool.query(
    "select extract(year from last_active_at)::int as year from vector_stores where id = $1",
    [id],
  );
  return rows[0].year;
}

test("notes the use of every store, however many are used at once", async () => {
  const ids = Array.from({ length: 200 }, (_, index) => `many ${index}`);
  await makeStores(...ids, "unused");
  const touches = new LastActiveUpdater(pool, tables);
  for (const id of ids) touches.touch(id);
  for (const id of ids) touches.touch(id);
  await expect.poll(() => readYear("many 199")).toBeGreaterThan(2020);
  for (const id of ids) expect(await readYear(id)).toBeGreaterThan(2020);
  expect(await readYear("unused")).toBe(2020);
});

test("tries again when it failed", async () => {
  await makeStores("again");
  const touches = new LastActiveUpdater(pool, tables);
  await pool.query("alter table vector_stores rename to away");
  touches.touch("again");
  // The next statement of a single connection; of several, the failure needs a moment.
  await pool.query("select pg_sleep(0.2)");
  await pool.query("alter table away rename to vector_stores");
  expect(await readYear("again")).toBe(2020);
  await expect
    .poll(async () => {
      touches.touch("again");
      return readYear("again");
    })
    .toBeGreaterThan(2020);
});
