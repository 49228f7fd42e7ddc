// A re-embedding finds the rows whose texts have changed since its last round, however many others have changed besides.
import { afterAll, expect, test } from "vitest";
import { SNAPSHOT_XMIN } from "../../../src/indexes/table.ts";
import type { Job } from "../../../src/vector-stores/reembedding/jobs.ts";
import { findPending } from "../../../src/vector-stores/reembedding/rows.ts";
import { openTestDatabase } from "../../support/databases/database.ts";

const database = await openTestDatabase();
const { pool, tables } = database;
afterAll(() => database.close());

const ROWS = 700;
const nameRow = (row: number) => `row ${String(row).padStart(4, "0")}`;

test("finds changed texts behind many rows that have changed otherwise, page by page", async () => {
  const { rows: snapshot } = await pool.query<{ xmin: string }>(SNAPSHOT_XMIN);
  for (const table of ["former", "second"]) {
    await pool.query(`create table ${table} (like embeddings including all)`);
    await pool.query(
      `insert into ${table} (vector_store_id, id, content, embedding)
       select 'store', 'row ' || lpad(row::text, 4, '0'), 'as before', '[1]' from generate_series(0, ${ROWS - 1}) as row`,
    );
  }
  const changed = [3, 400, 698, 699].map(nameRow);
  await pool.query("update former set content = 'changed' where id = any($1)", [changed]);
  await pool.query(
    "insert into former (vector_store_id, id, content, embedding) values ('store', 'row 9999', 'new', '[1]')",
  );
  await pool.query(
    "insert into former (vector_store_id, id, content, embedding) values ('other', 'row 0001', 'new', '[1]')",
  );

  const job = { vector_store_id: "store", changed_since: snapshot[0]?.xmin } as Job;
  const client = await pool.connect();
  try {
    const find = async (after: string | null) => {
      const page = { after, rowsMax: 2 };
      return findPending(client, tables, job, { source: "former", second: "second" }, page);
    };
    const found: string[] = [];
    for (let page = await find(null); page.length > 0; page = await find(found.at(-1) as string)) {
      expect(page.length).toBeLessThanOrEqual(2);
      found.push(...page.map(({ id }) => id));
    }
    expect(found).toEqual([...changed, "row 9999"]);
    expect(await find("row 0400")).toEqual([
      { id: "row 0698", content: "changed" },
      { id: "row 0699", content: "changed" },
    ]);
  } finally {
    client.release();
  }
});
