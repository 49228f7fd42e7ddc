import { afterAll, expect, test } from "vitest";
import { checkDimensions } from "../../../src/diagnostics/dimensions.ts";
import type { Check } from "../../../src/diagnostics/finding.ts";
import { checkCounts, checkOwnTables, checkPromotions } from "../../../src/diagnostics/stores.ts";
import type { Client } from "../../../src/postgres/database.ts";
import { readTransaction } from "../../../src/postgres/transaction.ts";
import { openTestDatabase } from "../../support/databases/database.ts";

const SETTINGS = { isWorking: true, thresholdBytes: 1, memoryBytes: 1, workers: 1 };

/** Several times as many as a sample of stores has on average, about 15,000 of these. */
const STORES = 60_000;
const WITH_ROWS = 300;

const database = await openTestDatabase();
afterAll(() => database.close());

await database.pool.query(
  `insert into vector_stores (id, dimensions, embedding_count)
   select 'vs_' || n, 2, case when n <= ${WITH_ROWS} then 1 else 0 end from generate_series(1, ${STORES}) as n`,
);
await database.pool.query(
  `insert into embeddings (vector_store_id, id, content, embedding)
   select 'vs_' || n, 'a', 'text', (case when n in (7, 290) then '[1,2,3]' else '[1,2]' end)::vector
   from generate_series(1, ${WITH_ROWS}) as n`,
);
await database.pool.query("vacuum (analyze) vector_stores");

/** Runs a check; returns its findings, its statements, and how many rows of stores it read without an index. */
async function run(check: Check) {
  return readTransaction(database.pool, async (client) => {
    const statements: string[] = [];
    const listening = new Proxy(client, {
      get(target, name) {
        if (name !== "query") return Reflect.get(target, name) as unknown;
        return (text: string, values: unknown[]) => {
          statements.push(text);
          return target.query(text, values);
        };
      },
    }) as Client;
    const findings = await check({ client: listening, database, settings: SETTINGS });
    const { rows } = await client.query<{ read: number }>(
      "select seq_tup_read::int as read from pg_stat_xact_user_tables where relid = 'vector_stores'::regclass",
    );
    return { findings, statements, read: rows[0]?.read ?? 0 };
  });
}

test.each([
  ["own tables", checkOwnTables, 0],
  ["stores that wait for an index", checkPromotions, 0],
  ["counts", checkCounts, STORES / 2],
  ["dimensions", checkDimensions, STORES / 2],
])("the check of %s does not read every store", async (_name, check, readMax) => {
  expect((await run(check)).read).toBeLessThanOrEqual(readMax);
});

test("vectors of many stores are looked at by few statements, and those of another length are found", async () => {
  // So that the first stores, which are in the same pages, are drawn for certain.
  await database.pool.query(
    `update vector_stores set index_state = 'failed' where id = any (select 'vs_' || n from generate_series(1, ${WITH_ROWS}) as n)`,
  );
  const { findings, statements } = await run(checkDimensions);
  expect(findings.map(({ storeId, severity }) => ({ storeId, severity }))).toEqual(
    expect.arrayContaining([
      { storeId: "vs_7", severity: "warning" },
      { storeId: "vs_290", severity: "warning" },
    ]),
  );
  expect(findings).toHaveLength(2);
  expect(findings[0]?.message).toContain("vectors of other lengths (1 of 3)");
  expect(statements.length).toBeLessThanOrEqual(1 + WITH_ROWS / 100);
});
