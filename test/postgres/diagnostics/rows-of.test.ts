import { readFileSync } from "node:fs";
import { afterAll, expect, test } from "vitest";
import { promoteStore } from "../../../src/indexes/worker.ts";
import { openTestDatabase } from "../../support/databases/database.ts";
import { seedStore, TEST_INDEXES } from "../../support/stores/index-store.ts";

const database = await openTestDatabase();
afterAll(() => database.close());

test("the function of docs/indexes.md has the rows of one store, wherever they are", async () => {
  const docs = readFileSync(new URL("../../../docs/indexes.md", import.meta.url), "utf8");
  const [, definition = ""] = /```sql\n(create or replace function rows_of[\s\S]*?)```/.exec(docs) ?? [];
  await database.pool.query(definition);
  for (const id of ["vs_own", "vs_shared"]) await seedStore(database, id, 3);
  await promoteStore(database, "vs_own", TEST_INDEXES);
  for (const id of ["vs_own", "vs_shared"]) {
    const { rows } = await database.pool.query("select * from rows_of($1) order by id", [id]);
    expect(rows).toEqual(
      [1, 2, 3].map((n) => ({
        id: `e${n}`,
        content: `text ${n}`,
        embedding: [n + 1, n, n],
        metadata: { n },
      })),
    );
  }
  const { rows } = await database.pool.query("select * from rows_of('vs_none')");
  expect(rows).toEqual([]);
});
