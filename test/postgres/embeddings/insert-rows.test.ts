import { expect, test } from "vitest";
import { insertRows } from "../../../src/embeddings/insert.ts";
import { openTestDatabase } from "../../support/databases/database.ts";

test("rows are copied in the chunks between which the caller may let others have their turn", async () => {
  await using database = await openTestDatabase();
  const { pool, tables, kind } = database;
  await pool.query("insert into vector_stores (id) values ('store')");
  const rows = Array.from({ length: 600 }, (_, row) => ({
    id: `row ${row}`,
    content: "text",
    contentBytes: 4,
    metadata: "{}",
    vector: new Float32Array(1_536).fill(1),
    createdAt: new Date(),
  }));
  const client = await pool.connect();
  try {
    let pauses = 0;
    await insertRows(client, tables, kind, "store", rows, () => {
      pauses++;
      return new Promise((resolve) => setImmediate(resolve));
    });
    // 3.7 MB in chunks of 256 KiB.
    expect(pauses).toBeGreaterThanOrEqual(10);
    const { rows: counts } = await client.query("select count(*)::int as count from embeddings");
    expect(counts).toEqual([{ count: rows.length }]);
  } finally {
    client.release();
  }
});
